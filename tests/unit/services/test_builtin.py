from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from bridge.services import builtin
from bridge.services.descriptors import kind_of
from bridge.services.proto_folder import compile_folder

PROTOS = Path(builtin.__file__).with_name("protos")


def test_the_committed_descriptors_are_those_of_the_proto_files() -> None:
    """builtin.binpb is what protoc makes of the .proto files: `python -m grpc_tools.protoc -I bridge/services/protos
    --descriptor_set_out=bridge/services/protos/builtin.binpb` and the files' names writes it anew."""
    compiled = FileDescriptorSet.FromString(compile_folder(PROTOS))
    for file in compiled.file:
        file.ClearField("source_code_info")
    committed = FileDescriptorSet.FromString((PROTOS / "builtin.binpb").read_bytes())

    assert {file.name: file for file in compiled.file} == {file.name: file for file in committed.file}


def test_the_table_of_methods_is_that_of_the_descriptors() -> None:
    """METHODS says of each built-in method what its descriptor says."""
    found = {
        service: {method: kind_of(builtin.descriptors().find_method(service, method)) for method in methods}
        for service, methods in builtin.METHODS.items()
    }

    assert builtin.METHODS == found
    assert set(builtin.METHODS) == set(builtin.descriptors().services)


@pytest.mark.parametrize(
    "message",
    [
        health_pb2.HealthCheckRequest(service="a.B"),
        health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN),
        health_pb2.HealthListResponse(statuses={"a.B": health_pb2.HealthCheckResponse(status="SERVING")}),
        reflection_pb2.ServerReflectionRequest(
            host="h",
            file_containing_extension={"containing_type": "a.M", "extension_number": 3},
        ),
        reflection_pb2.ServerReflectionResponse(
            valid_host="h",
            original_request={"file_by_filename": "a.proto"},
            file_descriptor_response={"file_descriptor_proto": [b"x", b"y"]},
        ),
        reflection_pb2.ServerReflectionResponse(
            all_extension_numbers_response={"base_type_name": "a.M", "extension_number": [1, 2]}
        ),
        reflection_pb2.ServerReflectionResponse(list_services_response={"service": [{"name": "a.B"}]}),
        reflection_pb2.ServerReflectionResponse(error_response={"error_code": 5, "error_message": "m"}),
    ],
    ids=lambda message: message.ListFields()[-1][0].name,
)
def test_messages_are_those_of_grpcs_own_classes(message: Message) -> None:
    """What gRPC's packages write is read in full here, and what is written here is the same bytes."""
    full_name = message.DESCRIPTOR.full_name.replace("v1alpha", "v1")
    ours = builtin.message_class(full_name).FromString(message.SerializeToString())

    assert message.SerializeToString() == ours.SerializeToString()
    assert str(message) == str(ours)


def test_protobuf_is_imported_only_when_it_is_needed() -> None:
    """A bridge that nobody asks for health or reflection does not pay for protobuf."""
    script = """
import sys
import bridge.services.reflected_target, bridge.services.health
import bridge.services.reflection, bridge.services.sources
print([name for name in sys.modules if name.startswith("google.protobuf")])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]\n" == run.stdout
