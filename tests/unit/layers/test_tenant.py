"""tenant: whose call it is, found once and before anything is sent."""

import pytest

from bridge.config.tenant import TenantSource
from bridge.layers.tenant import tenant
from bridge.rpc.call import Call, ClientCertificate, Peer
from bridge.rpc.errors import TenantRefused
from bridge.rpc.status import StatusCode
from tests.support.fakes import RecordingCall

BY_METADATA = TenantSource(metadata="x-tenant")
BY_URI = TenantSource(certificate="uri")
BY_NAME = TenantSource(certificate="cn")


def _peer(*, uris: tuple[str, ...] = (), common_names: tuple[str, ...] = ()) -> Peer:
    return Peer("10.0.0.1", ClientCertificate("pem", "CN=x", "CN=ca", "01", "", "", uris, common_names))


async def _tenant(source: TenantSource, call: RecordingCall) -> str:
    """The tenant with which the call reached the next layer."""
    seen: list[str] = []

    async def inner(passed: Call) -> None:
        seen.append(passed.tenant)

    await tenant(inner, source=source)(call)
    [found] = seen
    return found


async def test_the_metadata_names_it() -> None:
    call = RecordingCall(metadata=(("x-amz-tenant-id", "evil"), ("x-tenant", "acme"), ("x", "y")))

    assert "acme" == await _tenant(BY_METADATA, call)


async def test_the_certificate_names_it() -> None:
    peer = _peer(uris=("spiffe://example.org/acme",), common_names=("blue",))

    assert "spiffe://example.org/acme" == await _tenant(BY_URI, RecordingCall(peer=peer))
    assert "blue" == await _tenant(BY_NAME, RecordingCall(peer=peer))


async def test_a_constant_is_that_of_all_calls() -> None:
    call = RecordingCall(metadata=(("x-amz-tenant-id", "evil"), ("x-tenant", "evil")))

    assert "acme" == await _tenant(TenantSource(constant="acme"), call)


URI = "the URI in the subjectAltName of the client's certificate"
NAME = "the common name (CN) of the client's certificate"


@pytest.mark.parametrize(
    ("told", "source", "call"),
    [
        ("the metadata x-tenant is missing", BY_METADATA, RecordingCall()),
        ("the metadata x-tenant is missing", BY_METADATA, RecordingCall(metadata=(("x-amz-tenant-id", "a"),))),
        (
            "the metadata x-tenant is there more than once",
            BY_METADATA,
            RecordingCall(metadata=(("x-tenant", "a"), ("x-tenant", "a"))),
        ),
        ("the metadata x-tenant is not the name", BY_METADATA, RecordingCall(metadata=(("x-tenant", ""),))),
        ("the metadata x-tenant is not the name", BY_METADATA, RecordingCall(metadata=(("x-tenant", "a, b"),))),
        ("the metadata x-tenant is not the name", BY_METADATA, RecordingCall(metadata=(("x-tenant", "a" * 257),))),
        ("the metadata x-tenant is not the name", BY_METADATA, RecordingCall(metadata=(("x-tenant", "a "),))),
        (f"{URI} is missing", BY_URI, RecordingCall()),
        (f"{URI} is missing", BY_URI, RecordingCall(peer=_peer(common_names=("a",)))),
        (f"{URI} is there more than once", BY_URI, RecordingCall(peer=_peer(uris=("a:b", "a:c")))),
        (f"{URI} is not the name", BY_URI, RecordingCall(peer=_peer(uris=("https://a/?b",)))),
        (f"{NAME} is missing", BY_NAME, RecordingCall(peer=_peer(uris=("a:b",)))),
        (f"{NAME} is there more than once", BY_NAME, RecordingCall(peer=_peer(common_names=("a", "b")))),
        (f"{NAME} is not the name", BY_NAME, RecordingCall(peer=_peer(common_names=("a*",)))),
    ],
)
async def test_a_call_without_a_tenant_goes_no_further(told: str, source: TenantSource, call: RecordingCall) -> None:
    async def inner(passed: Call) -> None:
        raise AssertionError("nothing may be sent")

    with pytest.raises(TenantRefused) as caught:
        await tenant(inner, source=source)(call)

    assert f"the call has no tenant: {told}" in str(caught.value)
    assert StatusCode.UNAUTHENTICATED is caught.value.code
    assert not caught.value.may_have_run


async def test_what_the_client_said_is_not_repeated() -> None:
    """It may be a secret in the wrong place."""
    with pytest.raises(TenantRefused) as caught:
        await _tenant(BY_METADATA, RecordingCall(metadata=(("x-tenant", "Bearer;secret"),)))

    assert "secret" not in str(caught.value)
