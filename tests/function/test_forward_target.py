"""Where the server is: what a user writes, and what is dialled."""

from __future__ import annotations

import grpc
import pytest

from lambda_fn.forwarding.target import Target, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("orders.internal:50051", "orders.internal:50051"),
        ("grpc://orders.internal:50051", "orders.internal:50051"),
        ("grpc://orders.internal:50051/", "orders.internal:50051"),
        ("[::1]:50051", "[::1]:50051"),
        ("unix:/tmp/app.sock", "unix:/tmp/app.sock"),
        ("unix:///tmp/app.sock", "unix:/tmp/app.sock"),
        ("unix:app.sock", "unix:app.sock"),
    ],
)
def test_a_plaintext_target(text: str, address: str) -> None:
    """As grpcio dials it, without credentials."""
    assert Target(address) == parse(text, tls=False)


def test_grpcs_means_tls() -> None:
    """With the authorities that everybody trusts, or the credentials given."""
    given = grpc.ssl_channel_credentials()

    assert parse("grpcs://orders.internal:443", tls=False).credentials is not None
    assert parse("orders.internal:443", tls=True).credentials is not None
    assert parse("grpcs://orders.internal:443", tls=given).credentials is given


@pytest.mark.parametrize(
    ("text", "tls", "problem"),
    [
        ("orders.internal", False, "neither HOST:PORT"),
        ("orders.internal:65536", False, "neither HOST:PORT"),
        ("", False, "neither HOST:PORT"),
        ("a b:1", False, "neither HOST:PORT"),
        ("https://orders.internal:443", False, "https:// is neither grpc://"),
        ("grpc://orders.internal:443", True, "says plaintext"),
        ("unix:", False, "names no path"),
        ("unix:/tmp/app.sock", True, "TLS over a Unix socket"),
    ],
)
def test_what_is_no_target_is_refused(text: str, tls: bool, problem: str) -> None:
    """The message says what one looks like."""
    with pytest.raises(ValueError, match=problem):
        parse(text, tls=tls)


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("unix:/tmp/app.sock", "unix:/tmp/app.7.sock"),
        ("unix:/tmp/a.b/app", "unix:/tmp/a.b/app.7"),
        ("unix:/tmp/{pid}/app.sock", "unix:/tmp/7/app.sock"),
        ("unix:app.sock", "unix:app.7.sock"),
        ("localhost:50051", "localhost:50051"),
    ],
)
def test_a_socket_of_one_process(address: str, own: str) -> None:
    """Its number stands in the name, before the suffix or where it was asked for."""
    assert Target(own) == Target(address).of_process(7)
