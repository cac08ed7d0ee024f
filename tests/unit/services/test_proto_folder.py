from __future__ import annotations

from pathlib import Path

import pytest

from bridge.services.descriptors import load_descriptors
from bridge.services.errors import BadDescriptors
from bridge.services.proto_folder import NoWantedService, services_in

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


@pytest.mark.parametrize(
    "imported",
    [
        "google/api/annotations.proto",
        "google/api/httpbody.proto",
        "google/longrunning/operations.proto",
        "google/protobuf/any.proto",
        "google/rpc/status.proto",
        "google/type/money.proto",
    ],
)
def test_what_everybody_imports_is_at_hand(tmp_path: Path, imported: str) -> None:
    """Google's common files need not be in the folder."""
    write(tmp_path, "a.proto", f'package a; import "{imported}"; service A {{}}')

    assert load_descriptors(tmp_path).has_file(imported)


def test_only_what_a_wanted_service_needs_is_compiled(tmp_path: Path) -> None:
    """A broken file that no wanted service imports does no harm; what is imported is there, however far."""
    write(tmp_path, "far.proto", "package far; message Far {}")
    write(
        tmp_path,
        "near.proto",
        'package near; import "far.proto"; message Near { far.Far far = 1; }',
    )
    write(
        tmp_path,
        "shop.proto",
        'package shop; import "near.proto"; service Shop { rpc Buy(near.Near) returns (near.Near); }',
    )
    write(tmp_path, "broken.proto", 'package broken; import "nowhere.proto"; service Broken {}')

    described = load_descriptors(tmp_path, is_wanted={"shop.Shop"}.__contains__)

    assert ("shop.Shop",) == described.services
    assert described.has_file("far.proto")


def test_a_broken_file_that_a_wanted_service_imports_is_told(tmp_path: Path) -> None:
    """And only that one: the folder's other mistakes are nobody's concern."""
    write(tmp_path, "bad.proto", "package bad; message Bad { Lost lost = 1; }")
    write(tmp_path, "worse.proto", "package worse; message Worse { Gone gone = 1; }")
    write(tmp_path, "shop.proto", 'package shop; import "bad.proto"; service Shop {}')

    with pytest.raises(BadDescriptors) as caught:
        load_descriptors(tmp_path, is_wanted={"shop.Shop"}.__contains__)

    assert f"{tmp_path}/bad.proto:2:" in str(caught.value)
    assert "worse" not in str(caught.value)


def test_a_folder_without_a_wanted_service_says_what_it_declares(tmp_path: Path) -> None:
    """For the message that tells the user so."""
    write(tmp_path, "shop.proto", "package shop; service Shop {}")

    with pytest.raises(NoWantedService) as caught:
        load_descriptors(tmp_path, is_wanted={"shop.Shpo"}.__contains__)

    assert ["shop.Shop"] == caught.value.declared


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"package a.b;\nservice S {}", ["a.b.S"]),
        (b"service S{} service T\n{}", ["S", "T"]),
        (b"package /* no */ a . b ; service/**/S// x\n{}", ["a.b.S"]),
        (b'package a; // service No {}\n/* service No {} */ option x = "service No {";', []),
        (b"package a; message service { string service = 1; }", []),
        (b"package a; option x = 'it\\'s service No {'; service S {}", ["a.S"]),
        (b"edition = '2023'; package a; service S {}", ["a.S"]),
        (b"\xff service S {", ["S"]),
        (b"service S", []),
    ],
)
def test_services_are_found_by_their_words(text: bytes, expected: list[str]) -> None:
    """Comments and strings do not count; what follows makes no difference."""
    assert expected == services_in(text)
