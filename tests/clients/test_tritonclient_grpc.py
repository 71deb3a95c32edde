"""tritonclient over gRPC, sync, asyncio and streaming."""

import asyncio
import queue

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(server):
    with grpc.InferenceServerClient(server.grpc) as client:
        yield client


def tensor(name, array, datatype="FP32"):
    given = grpc.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def test_health_metadata_and_config(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("identity")
    assert not client.is_model_ready("nope")
    assert client.get_server_metadata().name == "landfall"
    assert [given.name for given in client.get_model_metadata("add").inputs] == ["a", "b"]
    config = client.get_model_config("add").config
    assert config.max_batch_size > 0 and list(config.input[0].dims) == [4]
    assert client.get_inference_statistics("add").model_stats[0].name == "add"
    names = {entry.name for entry in client.get_model_repository_index().models}
    assert {"identity", "add", "text"} <= names


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_infer(client, rows, coding):
    given = [tensor("a", rows), tensor("b", rows)]
    reply = client.infer("add", given, request_id="a1", compression_algorithm=coding)
    np.testing.assert_array_equal(reply.as_numpy("sum"), rows + rows)
    assert reply.get_response().id == "a1"


def test_text(client):
    texts = np.array(["a", "\u00e9", ""], dtype=object)
    reply = client.infer("text", [tensor("x", texts, "BYTES")])
    assert [text.decode() for text in reply.as_numpy("y")] == list(texts)


def test_errors(client, row):
    cases = [
        ("nope", "", [tensor("x", row)], "NOT_FOUND"),
        ("identity", "9", [tensor("x", row)], "NOT_FOUND"),
        ("identity", "one", [tensor("x", row)], "INVALID_ARGUMENT"),
        ("identity", "", [tensor("z", row)], "INVALID_ARGUMENT"),
        ("identity", "", [tensor("x", row[:, :3])], "INVALID_ARGUMENT"),
    ]
    for model, version, given, status in cases:
        with pytest.raises(InferenceServerException) as error:
            client.infer(model, given, model_version=version)
        assert error.value.status() == f"StatusCode.{status}"
    with pytest.raises(InferenceServerException) as error:
        client.get_system_shared_memory_status()
    assert error.value.status() == "StatusCode.UNIMPLEMENTED"
    with pytest.raises(InferenceServerException) as error:
        client.unload_model("add")
    assert error.value.status() == "StatusCode.PERMISSION_DENIED"


def test_callbacks(client, row):
    answers = queue.Queue()

    def put(result, error):
        answers.put((result, error))

    for i in range(100):
        given = [tensor("x", row + i)]
        client.async_infer("identity", given, put, request_id=str(i))
    for _ in range(100):
        result, error = answers.get(timeout=10)
        assert error is None
        expected = row + int(result.get_response().id)
        np.testing.assert_array_equal(result.as_numpy("y"), expected)


def test_stream(client, row):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for i in range(50):
        wrong = i == 7
        given = [tensor("x", row[:, :3] if wrong else row + i)]
        client.async_stream_infer("identity", given, request_id=str(i))
    for i in range(50):
        result, error = answers.get(timeout=10)
        if i == 7:
            assert "[request id: 7]" in error.message()
        else:
            assert result.get_response().id == str(i)
            np.testing.assert_array_equal(result.as_numpy("y"), row + i)
    client.stop_stream()


def test_asyncio(server, row):
    async def run():
        async with grpc_aio.InferenceServerClient(server.grpc) as client:
            assert await client.is_server_ready()
            calls = [client.infer("identity", [tensor("x", row + i)]) for i in range(20)]
            for i, reply in enumerate(await asyncio.gather(*calls)):
                np.testing.assert_array_equal(reply.as_numpy("y"), row + i)

    asyncio.run(run())
