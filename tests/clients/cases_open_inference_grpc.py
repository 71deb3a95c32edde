"""The client generated from the Open Inference Protocol's own definition, with typed contents."""

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from open_inference.grpc import protocol
from open_inference.grpc.service import GRPCInferenceServiceStub


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


def test_core_calls(channel, row):
    stub = GRPCInferenceServiceStub(channel)
    assert stub.ServerLive(protocol.ServerLiveRequest()).live
    assert stub.ServerReady(protocol.ServerReadyRequest()).ready
    assert stub.ModelReady(protocol.ModelReadyRequest(name="identity")).ready
    assert stub.ServerMetadata(protocol.ServerMetadataRequest()).name == "landfall"
    metadata = stub.ModelMetadata(protocol.ModelMetadataRequest(name="identity"))
    assert list(metadata.inputs[0].shape) == [-1, 4]
    given = protocol.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    given.contents.fp32_contents.extend(row[0].tolist())
    request = protocol.ModelInferRequest(model_name="identity", id="7", inputs=[given])
    reply = stub.ModelInfer(request)
    assert reply.id == "7"
    found = np.frombuffer(reply.raw_output_contents[0], dtype=np.float32)
    np.testing.assert_array_equal(found, row[0])


def test_health_service(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ["", "inference.GRPCInferenceService", "identity"]:
        request = health_pb2.HealthCheckRequest(service=service)
        assert stub.Check(request).status == serving
    assert next(iter(stub.Watch(health_pb2.HealthCheckRequest()))).status == serving
    with pytest.raises(grpc.RpcError) as error:
        stub.Check(health_pb2.HealthCheckRequest(service="nope"))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
