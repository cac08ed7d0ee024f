from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bridge.commands.failure import CommandFailed
from bridge.commands.listening import bind_all
from tests.support.configured import configured


def test_a_port_that_is_taken_is_named_and_nothing_stays_bound(tmp_path: Path) -> None:
    """The socket that was bound before is given back, with its path."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = configured(f"services:\nlisten: ['unix:{tmp_path}/a.sock', '127.0.0.1:{port}']")

        with pytest.raises(CommandFailed, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*is another bridge running"):
            bind_all(config)
    assert [] == list(tmp_path.iterdir())


def test_every_listener_is_bound_to_its_address(tmp_path: Path) -> None:
    config = configured(f"services:\nlisten: ['unix:{tmp_path}/a.sock', '127.0.0.1:0']")
    sockets = bind_all(config)

    addresses = [bound.address for bound in sockets]
    assert [f"unix:{tmp_path}/a.sock", f"127.0.0.1:{sockets[1].sock.getsockname()[1]}"] == addresses
    for bound in sockets:
        bound.close()
        bound.close()  # fine twice
    assert [] == list(tmp_path.iterdir())
