from __future__ import annotations

import asyncio

import pytest

from bridge.admin.server import is_loopback


class PeerOf(asyncio.BaseTransport):
    def __init__(self, peer: object) -> None:
        super().__init__({"peername": peer})


@pytest.mark.parametrize(
    ("peer", "is_local"),
    [
        (("127.0.0.1", 4711), True),
        (("127.8.9.1", 4711), True),
        (("::1", 4711, 0, 0), True),
        (("::ffff:127.0.0.1", 4711, 0, 0), True),
        (("::ffff:10.0.0.1", 4711, 0, 0), False),
        (("10.0.0.1", 4711), False),
        (("fe80::1%eth0", 4711, 0, 2), False),
        (None, False),
    ],
)
def test_only_this_hosts_own_addresses_are_local(peer: object, is_local: bool) -> None:
    """A peer is local by its address; one without an address is not."""
    assert is_local is is_loopback(PeerOf(peer))


def test_a_connection_that_is_gone_is_not_local() -> None:
    """Without a transport there is no peer."""
    assert not is_loopback(None)
