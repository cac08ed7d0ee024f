"""Routes, peers and what a served call must offer."""

from bridge.rpc.call import ClientCertificate, Peer, Route
from bridge.rpc.figures import MethodFigures
from bridge.rpc.limits import Limits
from tests.support.served import refuse


def test_peer_has_no_certificate_unless_one_was_verified() -> None:
    """Plain connections have an address only."""
    assert Peer("10.0.0.1").certificate is None


def test_peers_are_compared_by_content() -> None:
    """Address and certificate."""
    certificate = ClientCertificate("pem", "CN=a", "CN=b", "01", "then", "later")

    assert Peer("10.0.0.1", certificate) == Peer("10.0.0.1", certificate)
    assert Peer("10.0.0.1") != Peer("10.0.0.2")


def test_route_has_no_timeout_of_its_own() -> None:
    """Unless the configuration names one."""
    route = Route("a.B", refuse, MethodFigures("a.B", "C"), Limits())

    assert route.timeout is None
    assert "a.B" == route.name
