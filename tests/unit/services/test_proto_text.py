"""Descriptors as .proto text: protoc reads the same descriptors from it again."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from bridge.services.conflicts import default_json_name
from bridge.services.descriptors import Descriptors, files_in
from bridge.services.proto_folder import compile_folder
from bridge.services.proto_text import file_text, symbol_names, symbol_text

FOUND = find_spec("google.api")
assert FOUND is not None
[GOOGLE] = map(Path, FOUND.submodule_search_locations or ())

PROTO_3 = """\
syntax = "proto3";
package shop.v1;
import "google/api/annotations.proto";
import public "google/protobuf/timestamp.proto";
import "google/protobuf/descriptor.proto";
option java_package = "a \\"quoted\\" näme\\n";
option optimize_for = SPEED;

message Rule { repeated string words = 1; map<string, int32> weights = 2; Rule inner = 3; }
extend google.protobuf.FieldOptions { Rule rule = 50001; repeated int32 marks = 50002; bytes raw = 50003; }
extend google.protobuf.ServiceOptions { double ratio = 50004; }

// Takes orders.
//
// Twice a day.
service Orders {
  option (ratio) = inf;
  // One order.
  rpc Get(GetRequest) returns (Order) { option (google.api.http) = {
    get: "/v1/{id=orders/*}" additional_bindings { post: "/v1" body: "*" } }; }
  rpc Upload(stream Order) returns (Order);
  rpc Watch(GetRequest) returns (stream Order) { option deprecated = true; option idempotency_level = NO_SIDE_EFFECTS; }
  rpc Talk(stream Order) returns (stream Order);
}
service Empty {}
message GetRequest { string id = 1; }
// An order.
message Order {
  reserved 7, 20 to 29, 1000 to max;
  reserved "old", "older";
  // Its id.
  string id = 1 [deprecated = true, (rule) = { words: ["a", "b"] weights { key: "k" value: 2 } inner { words: "x" } }];
  optional int32 count = 2 [json_name = "howMany", (marks) = 1, (marks) = -2, (raw) = "\\000\\377"];
  map<int64, Line> lines = 3;
  oneof payment { string card = 4; Line cash = 5; }
  repeated double prices = 6 [packed = false];
  message Line { Kind kind = 1; Order parent = 2; google.protobuf.Timestamp at = 3; }
  enum Kind { option allow_alias = true; UNKNOWN = 0; A = 1 [deprecated = true]; B = 1; reserved 5 to 9, 12;
    reserved "C"; }
  Kind kind = 8;
}
"""

PROTO_2 = """\
syntax = "proto2";
package old;
message Base {
  required string name = 1 [default = "a\\"b\\\\c\\tö"];
  optional bytes data = 2 [default = "\\001\\377x"];
  optional double ratio = 3 [default = -inf];
  optional Color color = 4 [default = RED];
  optional bool flag = 5 [default = true];
  optional group Part = 6 { optional int32 x = 1; repeated group Deep = 2 { optional string y = 1; } }
  repeated int32 packed = 7 [packed = true];
  extensions 100 to 199;
  extensions 1000 to max [verification = UNVERIFIED];
  extend Base { optional Base nested = 100; repeated string more = 101; }
  oneof one { string a = 8; group Choice = 9 { optional int32 z = 1; } }
}
enum Color { RED = -1; GREEN = 2; }
extend Base { optional int32 outside = 150; optional group Outer = 151 { optional int32 q = 1; } }
"""

EDITION = """\
edition = "2023";
package new;
option features.field_presence = IMPLICIT;
message Item {
  string name = 1 [features.field_presence = EXPLICIT];
  repeated int32 numbers = 2 [features.repeated_field_encoding = EXPANDED];
  Item part = 3 [features.message_encoding = DELIMITED];
  reserved old, older;
}
enum Closed { option features.enum_type = CLOSED; ONE = 1; reserved TWO; }
"""


def compiled(folder: Path, texts: dict[str, str]) -> Descriptors:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Descriptors(files_in(compile_folder(folder), name="test"), name="test")


def told(file: bytes) -> FileDescriptorProto:
    """What a file says, without comments, and without what protoc writes for nothing."""
    parsed = FileDescriptorProto.FromString(file)
    parsed.ClearField("source_code_info")
    # Groups inside other groups come in another order, and an order of services and messages is none.
    for message in parsed.message_type:
        normalize(message)
    parsed.message_type.sort(key=lambda each: each.name)
    return parsed


def normalize(message: DescriptorProto) -> None:
    for field in (*message.field, *message.extension):
        if field.json_name == default_json_name(field):
            field.ClearField("json_name")
    for nested in message.nested_type:
        normalize(nested)
    message.nested_type.sort(key=lambda each: each.name)


@pytest.mark.parametrize("text", [PROTO_3, PROTO_2, EDITION], ids=["proto3", "proto2", "edition 2023"])
def test_protoc_reads_the_same_from_the_text(tmp_path: Path, text: str) -> None:
    first = compiled(tmp_path / "first", {"a.proto": text})
    [file] = [each for each in first.files if FileDescriptorProto.FromString(each).name == "a.proto"]

    printed = file_text(file, first.pool)
    again = compiled(tmp_path / "again", {"a.proto": printed})
    [reread] = [each for each in again.files if FileDescriptorProto.FromString(each).name == "a.proto"]

    assert told(file) == told(reread), printed
    assert printed == file_text(reread, again.pool)  # comments, too


def test_googles_own_files_come_back(tmp_path: Path) -> None:
    """google/api, google/rpc and google/type: options, comments and types as people write them."""
    wanted = [path for name in ("api", "rpc", "type") for path in sorted((GOOGLE.parent / name).glob("*.proto"))]
    originals = {str(path.relative_to(GOOGLE.parents[1])): path.read_text() for path in wanted}
    first = compiled(tmp_path / "first", originals)
    files = {FileDescriptorProto.FromString(each).name: each for each in first.files}
    printed = {name: file_text(files[name], first.pool) for name in originals}
    again = compiled(tmp_path / "again", printed)
    reread = {FileDescriptorProto.FromString(each).name: each for each in again.files}

    assert len(printed) > 40
    for name in printed:
        assert told(files[name]) == told(reread[name]), name


def test_each_symbol_has_a_text_of_its_own(tmp_path: Path) -> None:
    descriptors = compiled(tmp_path, {"a.proto": PROTO_3})
    [file] = [each for each in descriptors.files if FileDescriptorProto.FromString(each).name == "a.proto"]

    def shown(name: str) -> tuple[str, str] | None:
        return symbol_text(file, descriptors.pool, name)

    assert ("rpc", "rpc Upload(stream .shop.v1.Order) returns (.shop.v1.Order);\n") == shown("shop.v1.Orders.Upload")
    assert ("field", "map<int64, .shop.v1.Order.Line> lines = 3;\n") == shown("shop.v1.Order.lines")
    assert ("value", "B = 1;\n") == shown("shop.v1.Order.B")
    assert ("message", "message GetRequest {\n  string id = 1;\n}\n") == shown("shop.v1.GetRequest")
    assert ("service", "service Empty {}\n") == shown("shop.v1.Empty")
    assert None is shown("shop.v1.Nothing")
    _, service = shown("shop.v1.Orders") or ("", "")
    assert service.startswith("// Takes orders.\n//\n// Twice a day.\nservice Orders {\n")
    assert "  // One order.\n  rpc Get(.shop.v1.GetRequest) returns (.shop.v1.Order) {\n" in service
    assert all(shown(name) is not None for name in symbol_names(file))
