"""Interfaces whose names are hard for the languages that `new` writes."""

from __future__ import annotations

from pathlib import Path

ODD_NAMES = {
    "acme/type/v1/orders-of.proto": """
        syntax = "proto3";
        package acme.type.v1;
        import "acme/internal/money.proto";
        import public "acme/type/v1/orders_of.proto";
        import "google/api/annotations.proto";
        import "google/protobuf/empty.proto";
        import "google/protobuf/struct.proto";
        import "google/protobuf/timestamp.proto";
        import "google/protobuf/wrappers.proto";
        import "google/type/money.proto";

        service Orders {
          rpc Get(GetRequest) returns (Order) { option (google.api.http) = {get: "/v1/{id}"}; }
          rpc Watch(GetRequest) returns (stream Order.line);
          rpc Upload(stream Order) returns (google.protobuf.Empty);
          rpc Chat(stream GetRequest) returns (stream acme.internal.Money);
          rpc When(google.protobuf.Timestamp) returns (google.protobuf.StringValue);
          rpc Bytes(stream google.protobuf.BytesValue) returns (stream google.protobuf.Value);
          rpc match(google.protobuf.Empty) returns (google.type.Money);
          rpc Self(GetRequest) returns (stream GetRequest);
          rpc constructor(GetRequest) returns (XMLHttpRequest2);
          rpc get_all_2x(GetRequest) returns (stream type);
          rpc async(type.fn) returns (type._odd_Name_2a);
        }
        service handler { rpc Kinds(acme.type.v1.Kind) returns (Kind); }
        service import { rpc import(GetRequest) returns (GetRequest); }
        service class { rpc self(GetRequest) returns (GetRequest); }
        service Nothing {}
        message GetRequest { string id = 1; }
        message XMLHttpRequest2 { string id = 1; }
        message type {
          string id = 1;
          message fn {}
          message _odd_Name_2a {}
        }
    """,
    "acme/type/v1/orders_of.proto": """
        syntax = "proto2";
        package acme.type.v1;
        message Order {
          message line { required string text = 1; }
          enum state { OPEN = 3; CLOSED = 4; }
          required line from = 1;
          required state in = 2;
          required bytes to_string = 3;
          required double string = 4;
          required TopState top_2b = 5;
          optional Order parent = 6;
        }
        enum TopState { TOP_A = 1; }
        message Kind { required bool is_new = 1; required int64 count = 2; }
    """,
    "acme/internal/money.proto": """
        syntax = "proto3";
        package acme.internal;
        message Money { int64 units = 1; }
    """,
}
"""Imports, nested messages, all four kinds of method, required fields, keywords, files whose names look alike."""

BARE = {"proto.proto": 'syntax = "proto3";\nservice Bare { rpc Go(Empty) returns (Empty); }\nmessage Empty {}\n'}
"""A file without a package."""


def written(folder: Path, files: dict[str, str]) -> Path:
    """Write files into a folder. Returns the path of the first."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / next(iter(files))
