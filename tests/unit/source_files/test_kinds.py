"""What counts, or never does, by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.source_files.kinds import is_cache, is_generated, is_leftover, is_virtual_environment


@pytest.mark.parametrize(
    "name",
    [
        "orders_pb2.py",
        "orders_pb2_grpc.py",
        "orders_pb2.pyi",
        "orders_grpc.py",
        "orders_connect.py",
        "orders_pb.js",
        "orders_grpc_pb.js",
        "orders_pb.mjs",
        "orders_connect.js",
        "orders.pb.go",
        "orders_grpc.pb.go",
        "orders.connect.go",
        "orders.pb.gw.go",
        "orders_services_pb.rb",
    ],
)
def test_generated_code_is_known_by_its_name(name: str) -> None:
    assert is_generated(name)


@pytest.mark.parametrize("name", ["app.py", "pb2.py", "orders_pb2.txt", "orders.go", "orders.js", "orders_PB2.PY"])
def test_other_code_is_not_generated(name: str) -> None:
    assert not is_generated(name)


def test_caches_and_leftovers_are_known_by_their_names() -> None:
    assert all(map(is_cache, ["__pycache__", ".git", ".mypy_cache", ".idea"]))
    assert all(map(is_leftover, ["a.pyc", ".a.py.swp", "a.py~", ".#a.py", ".DS_Store"]))
    assert not any(map(is_cache, ["src", "cache", "git"]))
    assert not any(map(is_leftover, ["a.py", "swap", "a.log"]))


def test_a_virtual_environment_may_have_any_name(tmp_path: Path) -> None:
    for name in ("venv", "conda", ".venv"):
        (tmp_path / name).mkdir()
    (tmp_path / "venv/pyvenv.cfg").touch()
    (tmp_path / "conda/conda-meta").mkdir()

    assert {"venv": True, "conda": True, ".venv": False} == {
        folder.name: is_virtual_environment(folder) for folder in tmp_path.iterdir()
    }
