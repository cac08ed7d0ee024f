"""The two kinds of machine that Lambda has, and for which of them a file with machine code was made."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

_ELF = b"\x7fELF"
_MACHINE_AT = 18
"""Where the head of an ELF file names the machine, in two bytes (System V ABI, e_machine)."""
_HEAD = 20
_MACHO = frozenset(
    bytes.fromhex(magic) for magic in ("feedface", "feedfacf", "cefaedfe", "cffaedfe", "cafebabe", "cafebabf")
)
_PE = b"MZ"


class Machine(Enum):
    """A processor, as Lambda's API names it."""

    X86_64 = "x86_64"
    ARM64 = "arm64"

    @property
    def linux(self) -> str:
        """The name that Linux, and so a wheel, has for it."""
        return {Machine.X86_64: "x86_64", Machine.ARM64: "aarch64"}[self]

    @property
    def node(self) -> str:
        """The name that Node.js and npm have for it."""
        return {Machine.X86_64: "x64", Machine.ARM64: "arm64"}[self]


_ELF_MACHINES = {62: "x86_64", 183: "aarch64", 40: "32-bit ARM", 3: "32-bit x86", 243: "RISC-V"}


def machine_code_for(file: Path) -> str | None:
    """Return what a file's machine code runs on: `x86_64`, `aarch64`, or a system that Lambda is not. None: it has no
    machine code that we know.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD)
    except OSError:
        return None
    if head.startswith(_ELF) and len(head) == _HEAD:
        order = "little" if head[5] == 1 else "big"
        number = int.from_bytes(head[_MACHINE_AT:_HEAD], "little" if order == "little" else "big")
        return _ELF_MACHINES.get(number, f"machine {number} of ELF")
    if head[:4] in _MACHO and not file.name.endswith(".class"):
        return "macOS"
    return "Windows" if head.startswith(_PE) and file.suffix.lower() in (".exe", ".dll", ".pyd", ".node") else None
