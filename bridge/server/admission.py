"""Decides which connections a process accepts: how many in all, how many of one peer, and which idle one makes room for
a new one.

Sockets are counted from the moment they are accepted, so that a TLS handshake under way counts as well. The server
reports what comes and goes, and carries out the decisions. This module reads no socket.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Protocol

from bridge.rpc.figures import Counts
from bridge.rpc.limits import KEPT_DESCRIPTORS, MaxConnections

_logger = logging.getLogger(__name__)

ALWAYS_KEPT = 32
"""The part of these that is not used even for the moment until an idle connection has made room."""
QUIET = 60.0
"""Seconds without a refusal after which the next one is logged again."""
_LOOKED_AT = 100
"""Most connections that are checked to find an idle one. Those found busy are checked last the next time."""


class Guest(Protocol):
    """An accepted socket."""

    peer: str
    """The peer that the socket counts for, see `peer_key`."""

    @property
    def is_idle(self) -> bool:
        """Whether no call would be lost if it closed."""

    def give_up(self) -> None:
        """Close it soon. Admission no longer counts it."""


def peer_key(address: Any) -> str:
    """Return the peer that a socket's address counts for: an IPv4 address, the /64 network of an IPv6 address, or all
    users of Unix sockets.
    """
    if not isinstance(address, tuple):
        return "unix"
    ip = ip_address(address[0].partition("%")[0])
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        # A host usually has its own /64 (RFC 6177), and could use a new address for each connection.
        return str(ip_network((ip, 64), strict=False))
    return str(ip)


class Admission:
    """Counts the guests of a process."""

    def __init__(self, limits: MaxConnections, refused: Counts) -> None:
        """`refused` counts by reason: `total`, `per_peer`, `descriptors`; and `idle`, for idle connections that made
        room.
        """
        self._limits = limits
        self._refused = refused
        self._guests: dict[str, OrderedDict[Guest, None]] = {}
        """By peer. The guest that was added or checked longest ago is first."""
        self._peers: defaultdict[int, OrderedDict[str, None]] = defaultdict(OrderedDict)
        """The peers, by the number of their connections."""
        self._most = 0
        self._count = 0
        self._logged: dict[str, float] = {}
        """The time of the last refusal, by reason."""

    def __len__(self) -> int:
        return self._count

    def admit(self, guest: Guest, descriptor: int, *, now: float) -> bool:
        """Whether the guest may stay. If so, it counts until it leaves. `now` is the loop's time."""
        limits = self._limits
        own = self._guests.get(guest.peer, ())
        if limits.per_peer is not None and len(own) >= limits.per_peer:
            return self._refuse("per_peer", now)
        if not self.is_for_clients(descriptor):
            has_made_room = self._make_room()
            if not has_made_room or not self.is_for_clients(descriptor - ALWAYS_KEPT):
                return self._refuse("descriptors", now)
        elif self._count >= limits.total and not self._make_room():
            return self._refuse("total", now)
        self._enter(guest)
        return True

    def is_for_clients(self, descriptor: int) -> bool:
        """Whether client connections may keep this file descriptor."""
        return self._limits.descriptors is None or descriptor < self._limits.descriptors

    def ran_short(self, *, now: float) -> None:
        """Record that the system had no file descriptor for a waiting socket."""
        self._make_room()
        self._refuse("descriptors", now)

    def leave(self, guest: Guest) -> None:
        """Stop counting the guest. A second call does nothing."""
        guests = self._guests.get(guest.peer)
        if guests is None or guest not in guests:
            return
        self._move(guest.peer, len(guests), len(guests) - 1)
        del guests[guest]
        if not guests:
            del self._guests[guest.peer]
        self._count -= 1

    def _enter(self, guest: Guest) -> None:
        guests = self._guests.setdefault(guest.peer, OrderedDict())
        self._move(guest.peer, len(guests), len(guests) + 1)
        guests[guest] = None
        self._count += 1

    def _move(self, peer: str, before: int, after: int) -> None:
        """Keep the peers sorted by the number of their connections."""
        self._peers[before].pop(peer, None)
        if not self._peers[before]:
            del self._peers[before]
        if after:
            self._peers[after][peer] = None
        if after > self._most or self._most not in self._peers:
            self._most = after  # the number changes by one, so no other peer has more

    def _make_room(self) -> bool:
        """Evict an idle connection of a peer that has the most connections. Returns whether there was one."""
        for _ in range(min(self._count, _LOOKED_AT)):
            peers = self._peers[self._most]
            peer = next(iter(peers))
            guests = self._guests[peer]
            guest = next(iter(guests))
            if guest.is_idle:
                self.leave(guest)
                self._refused["idle"] += 1
                guest.give_up()
                return True
            guests.move_to_end(guest)
            peers.move_to_end(peer)
        return False

    def _refuse(self, reason: str, now: float) -> bool:
        self._refused[reason] += 1
        last = self._logged.get(reason)
        self._logged[reason] = now
        if last is None or now - last > QUIET:
            _logger.warning("%s; bridge_connections_refused_total counts them", self._explain(reason))
        return False

    def _explain(self, reason: str) -> str:
        limits = self._limits
        if reason == "per_peer":
            return f"connections are refused: one peer has {limits.per_peer}, which is `max_connections.per_peer`"
        if reason == "total":
            return (
                f"connections are refused: there are {limits.total}, all in use, "
                "which is `max_connections.total` or what the limit of open files allows"
            )
        return (
            f"connections are refused: file descriptors run short, and {KEPT_DESCRIPTORS} are kept for other "
            "uses; raise the limit of open files (ulimit -n)"
        )
