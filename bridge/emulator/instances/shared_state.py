"""What all instances of a local Lambda share: helpers, times and limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.aws.invoke import MAX_STREAMED_REPLY
from bridge.emulator.instances.debugging import DebugPorts
from bridge.emulator.instances.environment import Interpreters
from bridge.emulator.instances.quotas import AccountQuota
from bridge.emulator.instances.reaper import Reaper
from bridge.emulator.instances.terminal import Terminal
from bridge.server.hosts import Hosts


@dataclass(frozen=True, slots=True)
class SharedEmulatorState:
    """What all instances of a local Lambda share."""

    reaper: Reaper
    interpreters: Interpreters
    init_timeout: float
    """Seconds from the start of a process to its first request for an invocation."""
    idle_timeout: float
    """Seconds without an invocation after which an instance ends."""
    hosts: Hosts | None = None
    """The names under which the Runtime APIs answer; None: those that nobody else can have."""
    max_streamed_reply: int = MAX_STREAMED_REPLY
    """Bytes."""
    account: AccountQuota = field(default_factory=AccountQuota)
    terminal: Terminal | None = None
    """Lent to functions that reach a breakpoint()."""
    debug_ports: DebugPorts = field(default_factory=DebugPorts)
    shows_reports: bool = True
    """Whether AWS's lines about each invocation (START, END, REPORT) are shown. Log tails always have them."""
