"""What the figures were taken on, and what a process has used: read from /proc, from the interpreter and from the tools
themselves.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

PROXY_CORE, LOAD_CORE = 0, 1
"""One proxy process on one core; stand-in, load and this program on the other."""

_PAGE = os.sysconf("SC_PAGE_SIZE")

_DESCRIBE = """
import platform, sys, sysconfig
options = sysconfig.get_config_var("CONFIG_ARGS") or ""
is_distribution = "'--prefix=/usr'" in options
build = "release build" if is_distribution or "--enable-optimizations" in options else "plain build"
jit = ", JIT on" if hasattr(sys, "_jit") and sys._jit.is_enabled() else ""
print(f"Python {platform.python_version()}, {build}{jit}")
"""


def on_core(core: int, *command: str | Path) -> list[str]:
    return ["taskset", "-c", str(core), *map(str, command)]


def kept_environ() -> dict[str, str]:
    """Without the variables that would change a proxy: AWS_, BRIDGE_, PYTHON, those of HTTP proxies."""
    return {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}


def cpu_seconds(pid: int) -> float:
    """What all threads of the process have used. The kernel counts nanoseconds here, and 10 ms steps in
    /proc/PID/stat.
    """
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def resident(pid: int) -> int:
    """Bytes of memory that the process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def python_of(interpreter: Path) -> str:
    """Its version, how it was built (a plain build is some 10 % slower than a release build, which is profile-guided),
    and its JIT.
    """
    return _output(interpreter, "-c", _DESCRIBE)


def environment(envoy: Path) -> list[str]:
    """A line each; nothing that names the machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = re.findall(r"model name\s*:\s*(.+)", cpuinfo)
    libraries = ("uvloop", "httptools", "msgspec")
    found = _version(_output(envoy, "--version"))
    return [
        f"{len(models)} cores, {models[0] if models else 'unknown'}; Linux {os.uname().release.split('-')[0]}",
        (
            f"Envoy {found}, nghttpx {_version(_output('nghttpx', '--version'))}, "
            f"h2load {_version(_output('h2load', '--version'))}"
        ),
        ", ".join(f"{name} {_installed(name)}" for name in libraries),
    ]


def _installed(name: str) -> str:
    from importlib.metadata import version

    return version(name)


def _version(text: str) -> str:
    found = re.search(r"\d+\.\d+\.\d+", text)
    return found[0] if found else "unknown"


def _output(*command: str | Path) -> str:
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, env=kept_environ())
    return ran.stdout.strip()
