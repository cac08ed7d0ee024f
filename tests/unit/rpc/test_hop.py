"""The table of what a hop does to names, and what it adds about who called."""

from __future__ import annotations

import pytest

from bridge.rpc.call import ClientCertificate, Peer
from bridge.rpc.hop import Action, Leg, forwarded_cert, forwarded_for, names, not_passed, source_of

OF_THE_BRIDGE = [leg for leg in Leg if leg not in (Leg.CONFIGURED, Leg.FUNCTION_URL)]


@pytest.mark.parametrize("leg", OF_THE_BRIDGE)
def test_what_belongs_to_one_connection_never_travels(leg: Leg) -> None:
    """RFC 9110 7.6.1, and RFC 9113 8.2.2 for the ones that HTTP/2 forbids."""
    named = {"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"}

    assert named <= names(leg, Action.DROP)


@pytest.mark.parametrize("leg", [Leg.EVENT, Leg.HTTP, Leg.GRPC])
def test_a_client_cannot_say_who_it_is(leg: Leg) -> None:
    """A certificate that nobody has seen does not pass, and an address is only what ours is added to."""
    assert "x-forwarded-client-cert" in names(leg, Action.ANEW)
    assert "x-forwarded-for" in names(leg, Action.JOIN)


@pytest.mark.parametrize("leg", Leg)
def test_an_application_s_own_names_pass(leg: Leg) -> None:
    """What the table does not know is the call's own."""
    assert not_passed(leg).isdisjoint({"x-tenant", "authorization", "trace-bin"})


@pytest.mark.parametrize("leg", Leg)
def test_each_name_has_one_fate(leg: Leg) -> None:
    """What does not pass is dropped, made anew or joined."""
    fates = [names(leg, action) for action in (Action.DROP, Action.ANEW, Action.JOIN)]

    assert sum(map(len, fates)) == len(not_passed(leg))
    assert not_passed(leg).isdisjoint(names(leg, Action.PASSED))


@pytest.mark.parametrize(
    ("earlier", "value"),
    [
        (None, "10.0.0.1"),
        ("", "10.0.0.1"),
        ("192.0.2.7", "192.0.2.7, 10.0.0.1"),
        ("2001:db8::1, 192.0.2.7", "2001:db8::1, 192.0.2.7, 10.0.0.1"),
    ],
)
def test_the_caller_comes_last(earlier: str | None, value: str) -> None:
    """After the hops that came before, in their order."""
    assert value == forwarded_for(earlier, Peer("10.0.0.1"))


@pytest.mark.parametrize(("address", "source"), [("192.0.2.7", "192.0.2.7"), ("::1", "::1"), ("unix", "127.0.0.1")])
def test_the_source_is_an_address(address: str, source: str) -> None:
    """Also for who comes over a Unix socket."""
    assert source == source_of(Peer(address))


def test_a_subject_cannot_end_its_quotes() -> None:
    """Quotes and backslashes of a certificate's subject are escaped."""
    certificate = ClientCertificate("PEM\n", 'CN=a"b\\c', "CN=ca", "01", "then", "later")

    assert r'Cert="PEM%0A";Subject="CN=a\"b\\c"' == forwarded_cert(certificate)
