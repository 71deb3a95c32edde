"""KServe's own clients: protocol v2 over HTTP and gRPC, protocol v1."""

import asyncio

import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request_of(row, binary):
    given = InferInput("x", list(row.shape), "FP32")
    given.set_data_from_numpy(row, binary_data=binary)
    return InferRequest("identity", [given], request_id="k1")


@pytest.mark.parametrize("binary", [True, False])
def test_rest_v2(server, row, binary):
    async def run():
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        url = f"http://{server.http}"
        assert await client.is_server_ready(url)
        assert await client.is_server_live(url)
        assert await client.is_model_ready(url, "identity")
        reply = await client.infer(url, request_of(row, binary), model_name="identity")
        np.testing.assert_array_equal(reply.outputs[0].as_numpy(), row)
        with pytest.raises(httpx.HTTPStatusError, match="nope"):
            await client.infer(url, request_of(row, binary), model_name="nope")

    asyncio.run(run())


def test_rest_v1(server):
    async def run():
        client = InferenceRESTClient(RESTConfig(protocol="v1"))
        url = f"http://{server.http}"
        body = {"instances": [[1, 2, 3, 4]]}
        reply = await client.infer(url, body, model_name="identity")
        assert reply == {"predictions": [[1.0, 2.0, 3.0, 4.0]]}
        assert await client.is_model_ready(url, "identity")

    asyncio.run(run())


def test_grpc(server, row):
    async def run():
        client = InferenceGRPCClient(server.grpc)
        assert await client.is_server_ready()
        assert await client.is_model_ready("identity")
        reply = await client.infer(request_of(row, True))
        np.testing.assert_array_equal(reply.outputs[0].as_numpy(), row)
        await client.close()

    asyncio.run(run())
