"""What uv says of packages without a wheel. The texts are those of uv 0.13."""

from __future__ import annotations

import pytest

from bridge.packaging.machine import Machine
from bridge.packaging.uv import Platform, packages_without_wheel

NO_ABI = """\
error: No solution found when resolving dependencies
  cause: Because pysqlite3-binary<=0.5.3.post1 has no wheels with a matching Python ABI tag (e.g., `cp313`) and only the
         following versions of pysqlite3-binary are available:
             pysqlite3-binary<=0.5.3.post1
             pysqlite3-binary>=0.5.4
         we can conclude that pysqlite3-binary<0.5.4 cannot be used.
         And because pysqlite3-binary>=0.5.4 has no wheels with a matching platform tag (e.g., `manylinux_2_34_aarch64`)
         and you require pysqlite3-binary, we can conclude that your requirements are unsatisfiable.
"""
NO_WHEELS = """\
error: No solution found when resolving dependencies
  cause: Because all versions of docopt have no usable wheels and you require docopt, we can conclude that your
         requirements are unsatisfiable.

hint: Wheels are required for `docopt` because building from source is disabled for all packages (`--no-build`)
"""
NOT_THERE = """\
error: No solution found when resolving dependencies
  cause: Because nobody-has-this was not found in the package registry and you require nobody-has-this, we can conclude
         that your requirements are unsatisfiable.
"""


@pytest.mark.parametrize(
    ("said", "names"),
    [(NO_ABI, ["pysqlite3-binary"]), (NO_WHEELS, ["docopt"]), (NOT_THERE, []), ("", [])],
)
def test_packages_without_a_wheel_are_found_in_uvs_words(said: str, names: list[str]) -> None:
    assert names == packages_without_wheel(said)


@pytest.mark.parametrize(
    ("python", "machine", "wheels"),
    [
        ((3, 10), Machine.X86_64, "x86_64-manylinux_2_17"),
        ((3, 11), Machine.ARM64, "aarch64-manylinux_2_17"),
        ((3, 12), Machine.ARM64, "aarch64-manylinux_2_34"),
        ((3, 15), Machine.X86_64, "x86_64-manylinux_2_34"),
    ],
)
def test_wheels_are_those_of_the_runtimes_own_linux(python: tuple[int, int], machine: Machine, wheels: str) -> None:
    """Amazon Linux 2 up to Python 3.11, 2023 from 3.12 on."""
    assert wheels == Platform(python, machine).wheels
