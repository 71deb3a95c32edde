"""tritonclient over HTTP, sync and asyncio."""

import asyncio

import numpy as np
import pytest
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(server):
    with http.InferenceServerClient(server.http) as client:
        yield client


def tensor(name, array, binary=True, datatype="FP32"):
    given = http.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def test_health_metadata_and_config(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("identity") and client.is_model_ready("identity", "1")
    assert not client.is_model_ready("nope")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("add")
    assert [given["name"] for given in metadata["inputs"]] == ["a", "b"]
    assert metadata["inputs"][0]["shape"] == [-1, 4]
    config = client.get_model_config("add")
    assert config["max_batch_size"] > 0
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["input"][0]["dims"] == [4]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_infer_binary_and_json(client, row, binary_in, binary_out):
    wanted = [http.InferRequestedOutput("y", binary_data=binary_out)]
    given = [tensor("x", row, binary_in)]
    reply = client.infer("identity", given, outputs=wanted, request_id="a1")
    np.testing.assert_array_equal(reply.as_numpy("y"), row)
    assert reply.get_response()["id"] == "a1"


def test_infer_with_the_defaults_of_the_client(client, row):
    reply = client.infer("add", [tensor("a", row), tensor("b", row)])
    np.testing.assert_array_equal(reply.as_numpy("sum"), row + row)


@pytest.mark.parametrize("request_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("reply_coding", [None, "gzip", "deflate"])
def test_compression(client, rows, request_coding, reply_coding):
    reply = client.infer(
        "identity",
        [tensor("x", rows)],
        request_compression_algorithm=request_coding,
        response_compression_algorithm=reply_coding,
    )
    np.testing.assert_array_equal(reply.as_numpy("y"), rows)


def test_text(client):
    texts = np.array(["a", "\u00e9", ""], dtype=object)
    for binary in (True, False):
        reply = client.infer("text", [tensor("x", texts, binary, "BYTES")])
        found = [text.decode() for text in reply.as_numpy("y")]
        assert found == list(texts)


def test_non_finite_numbers(client):
    row = np.array([[np.nan, np.inf, -np.inf, 1]], dtype=np.float32)
    wanted = [http.InferRequestedOutput("y", binary_data=False)]
    reply = client.infer("identity", [tensor("x", row)], outputs=wanted)
    np.testing.assert_array_equal(reply.as_numpy("y"), row)


def test_classification(client):
    row = np.array([[0.1, 0.7, 0.0, 0.2]], dtype=np.float32)
    wanted = [http.InferRequestedOutput("y", class_count=2)]
    reply = client.infer("identity", [tensor("x", row)], outputs=wanted)
    assert [entry.split(b":")[1] for entry in reply.as_numpy("y")[0]] == [b"1", b"3"]


def test_concurrent_requests(server, row):
    with http.InferenceServerClient(server.http, concurrency=8) as client:
        pending = []
        for i in range(200):
            given = tensor("x", row + i)
            pending.append((i, client.async_infer("identity", [given], request_id=str(i))))
        for i, answer in pending:
            reply = answer.get_result()
            np.testing.assert_array_equal(reply.as_numpy("y"), row + i)
            assert reply.get_response()["id"] == str(i)


def test_errors(client, row):
    cases = [
        ("nope", [tensor("x", row)], "404", "'nope' is not found"),
        ("identity", [tensor("z", row)], "400", "z"),
        ("identity", [tensor("x", row[:, :3])], "400", "[1,3]"),
        ("identity", [tensor("x", row.astype(np.int32), True, "INT32")], "400", "INT32"),
    ]
    for model, given, status, message in cases:
        with pytest.raises(InferenceServerException) as error:
            client.infer(model, given)
        assert error.value.status() == status
        assert message in error.value.message()


def test_statistics(client, row):
    client.infer("identity", [tensor("x", row)])
    [model] = client.get_inference_statistics("identity")["model_stats"]
    assert model["name"] == "identity"
    assert model["inference_stats"]["success"]["count"] >= 1
    assert client.get_inference_statistics()["model_stats"]


def test_repository_control_is_for_the_admin_listener(server, client):
    names = {entry["name"] for entry in client.get_model_repository_index()}
    assert {"identity", "add", "text"} <= names
    with pytest.raises(InferenceServerException):
        client.unload_model("add")
    with http.InferenceServerClient(server.admin) as admin:
        admin.unload_model("add")
        while client.is_model_ready("add"):
            pass
        admin.load_model("add")
        assert client.is_model_ready("add")
        with pytest.raises(InferenceServerException):
            admin.load_model("nope")


def test_asyncio(server, row):
    async def run():
        async with http_aio.InferenceServerClient(server.http) as client:
            assert await client.is_server_ready()
            reply = await client.infer("add", [tensor("a", row), tensor("b", row)])
            np.testing.assert_array_equal(reply.as_numpy("sum"), row + row)

    asyncio.run(run())
