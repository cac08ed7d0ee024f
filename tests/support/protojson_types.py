"""test.protojson.Sample: one field for each rule of ProtoJSON that needs one. Compiled when this module is imported."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from grpc_tools import protoc

PROTO = """
syntax = "proto2";
package test.protojson;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message Sample {
  optional float f = 1;
  optional double d = 2;
  optional int64 big = 3;
  optional int32 small = 4;
  optional uint64 unsigned = 5;
  optional bytes blob = 6;
  optional State state = 7;
  optional bool flag = 8;
  optional string text = 9;
  optional Sample sub_part = 10;
  repeated Sample parts = 11;
  repeated float floats = 12;
  repeated google.protobuf.NullValue nulls = 13;
  map<int64, float> by_number = 14;
  map<bool, bytes> by_flag = 15;
  map<string, google.protobuf.NullValue> nulls_by_name = 16;
  oneof choice {
    float one = 17;
    string two = 18;
    google.protobuf.Value three = 19;
  }
  optional google.protobuf.Timestamp at = 20;
  optional google.protobuf.Duration took = 21;
  optional google.protobuf.FieldMask mask = 22;
  optional google.protobuf.Struct extra = 23;
  optional google.protobuf.Any any = 24;
  optional google.protobuf.FloatValue wrapped = 25;
  optional google.protobuf.Value value = 26;
  repeated google.protobuf.Value values = 27;
  optional group Grouped = 28 { optional float f = 1; }
  optional google.protobuf.NullValue nothing = 29;
  repeated string texts = 30;
  extensions 100 to 200;
}
enum State { NONE = 0; OPEN = 1; }
extend Sample { optional float more = 100; }
message Strict { required string name = 1; }
"""

LOADED = (any_pb2, duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
"""What it imports, loaded before it."""


def _compiled() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "protojson_types.proto", Path(folder) / "out"
        source.write_text(PROTO)
        includes = [f"-I{folder}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
        assert 0 == protoc.main(["protoc", *includes, f"--descriptor_set_out={out}", source.name])
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0].SerializeToString()


_FILE: Any = descriptor_pool.Default().AddSerializedFile(_compiled())
SAMPLE: Any = message_factory.GetMessageClass(_FILE.message_types_by_name["Sample"])
STRICT: Any = message_factory.GetMessageClass(_FILE.message_types_by_name["Strict"])
MORE: Any = _FILE.extensions_by_name["more"]
