"""tenant: finds the tenant of each call, before the call waits for anything. Without a tenant nothing is sent.

The metadata `x-amz-tenant-id` of a client never counts: the configuration says where the tenant comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.aws.tenancy import TENANT_RULE, is_tenant, tenant_header
from bridge.config.tenant import TenantSource
from bridge.rpc.call import Call, Handler, Peer
from bridge.rpc.errors import TenantRefused


def tenant(inner: Handler, *, source: TenantSource) -> Handler:
    """Return a handler that puts the tenant on the call, for the queue, the access log, traces and carriers."""
    find = finder_of(source)

    async def served(call: Call) -> None:
        call.tenant = found = find(call)
        call.invoke_headers += tenant_header(found)
        await inner(call)

    return served


def finder_of(source: TenantSource) -> Callable[[Call], str]:
    """Return a function that finds the tenant of a call. It raises TenantRefused."""
    if source.constant:
        return lambda _call: source.constant
    if source.metadata is not None:
        name = source.metadata
        return lambda call: _only([value for key, value in call.metadata if key == name], f"the metadata {name}")
    if source.certificate == "uri":
        return lambda call: _only(_uris(call.peer), "the URI in the subjectAltName of the client's certificate")
    return lambda call: _only(_common_names(call.peer), "the common name (CN) of the client's certificate")


def _only(found: Sequence[str], what: str) -> str:
    """Return the tenant, if it is there once. Raises TenantRefused, which does not repeat what the client said."""
    if not found:
        raise TenantRefused(f"the call has no tenant: {what} is missing")
    if len(found) > 1:
        raise TenantRefused(f"the call has no tenant: {what} is there more than once")
    if not is_tenant(found[0]):
        raise TenantRefused(f"the call has no tenant: {what} is not the name of a tenant ({TENANT_RULE})")
    return found[0]


def _uris(peer: Peer) -> Sequence[str]:
    return () if peer.certificate is None else peer.certificate.uris


def _common_names(peer: Peer) -> Sequence[str]:
    return () if peer.certificate is None else peer.certificate.common_names
