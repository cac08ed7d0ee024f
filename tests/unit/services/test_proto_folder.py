from __future__ import annotations

from pathlib import Path

import pytest

from bridge.services.descriptors import load_descriptors
from bridge.services.errors import BadDescriptors

HEAD = 'syntax = "proto3";\n'


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + text)


def test_a_folder_is_compiled_with_what_it_imports(tmp_path: Path) -> None:
    """Files import each other by their place in the folder; protobuf's and google/api's own are at hand."""
    write(tmp_path, "money/money.proto", "package money; message Money { string amount = 1; }")
    write(
        tmp_path,
        "shop.proto",
        """
        package shop;
        import "google/api/annotations.proto";
        import "google/protobuf/empty.proto";
        import "money/money.proto";
        service Shop {
          rpc Pay(money.Money) returns (google.protobuf.Empty) {
            option (google.api.http) = {post: "/v1/pay", body: "*"};
          }
        }
        """,
    )
    compiled = load_descriptors(tmp_path)

    assert ("shop.Shop",) == compiled.services
    assert "money/money.proto" == compiled.file_of("money.Money")
    assert 72295728 in (compiled.extension_numbers("google.protobuf.MethodOptions") or ())


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    """What protoc complains of is told as file:line:column, warnings left out."""
    write(tmp_path, "unused.proto", "")
    write(tmp_path, "bad.proto", 'import "unused.proto";\nmessage M {\n  Lost x = 1;\n}')

    with pytest.raises(BadDescriptors) as caught:
        load_descriptors(tmp_path)

    assert f"{tmp_path}/bad.proto:4:3: " in str(caught.value)
    assert "warning" not in str(caught.value)


def test_long_complaints_are_cut(tmp_path: Path) -> None:
    """A hundred errors are told by the first twenty."""
    fields = "".join(f"  Lost x{number} = {number};\n" for number in range(1, 101))
    write(tmp_path, "bad.proto", f"message M {{\n{fields}}}")

    with pytest.raises(BadDescriptors, match="and 80 more"):
        load_descriptors(tmp_path)


def test_a_folder_without_proto_files_is_refused(tmp_path: Path) -> None:
    """An empty folder is a mistake in the configuration."""
    with pytest.raises(BadDescriptors, match=r"no \.proto file"):
        load_descriptors(tmp_path)


def test_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    """A mounted ConfigMap shows its files as links into a hidden folder; each counts once."""
    write(tmp_path, "..2024/hello.proto", "package hello; service Greeter {}")
    (tmp_path / "hello.proto").symlink_to(tmp_path / "..2024/hello.proto")

    assert ("hello.Greeter",) == load_descriptors(tmp_path).services
