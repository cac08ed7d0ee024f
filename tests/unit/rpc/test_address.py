from __future__ import annotations

import pytest

from bridge.rpc.address import TcpAddress


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("bridge.internal", False),
    ],
)
def test_loopback_is_this_machine_alone(host: str, is_loopback: bool) -> None:
    assert is_loopback is TcpAddress(host, 1).is_loopback
