"""For which machine a file with machine code was made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bridge.packaging.machine import Machine, machine_code_for
from tests.support.wheels import machine_code


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.so", machine_code("x86_64"), "x86_64"),
        ("a.so", machine_code("aarch64"), "aarch64"),
        ("a.so", b"\x7fELF\x01\x02\x01" + bytes(11) + b"\x00\x28", "32-bit ARM"),
        ("a.so", b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xf7\x00", "machine 247 of ELF"),
        ("a.dylib", bytes.fromhex("cffaedfe") + bytes(28), "macOS"),
        ("a.dll", b"MZ" + bytes(62), "Windows"),
        ("A.class", bytes.fromhex("cafebabe") + bytes(28), None),
        ("a.txt", b"MZ is how this text begins", None),
        ("a.sh", b"#!/bin/sh\n", None),
        ("short", b"\x7fELF", None),
        ("empty", b"", None),
    ],
)
def test_the_head_of_a_file_names_its_machine(tmp_path: Path, name: str, content: bytes, expected: str | None) -> None:
    (tmp_path / name).write_bytes(content)

    assert expected == machine_code_for(tmp_path / name)


def test_a_file_that_cannot_be_read_has_no_machine_code(tmp_path: Path) -> None:
    assert machine_code_for(tmp_path / "gone") is None
    assert machine_code_for(tmp_path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the interpreter is no ELF file")
def test_the_interpreter_is_for_this_machine() -> None:
    import platform

    assert platform.machine() == machine_code_for(Path(sys.executable).resolve())


def test_the_machines_are_those_of_lambdas_api() -> None:
    assert ["x86_64", "arm64"] == [each.value for each in Machine]
    assert ["x86_64", "aarch64"] == [each.linux for each in Machine]
    assert ["x64", "arm64"] == [each.node for each in Machine]
