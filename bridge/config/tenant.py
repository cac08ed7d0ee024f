"""`tenant`: where the tenant of a call comes from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from bridge.aws.tenancy import TENANT_RULE, is_tenant
from bridge.config.element import Element
from bridge.config.reading import mapping
from bridge.config.values import optional
from bridge.rpc.hop import AMAZON, Leg, not_passed
from bridge.rpc.metadata import is_binary, is_name

_EXPECTED = "the name of a tenant, {metadata: NAME}, {certificate: uri} or {certificate: cn}"

_NOT_METADATA = not_passed(Leg.CALL)


def metadata_name(element: Element) -> str:
    """Read the name of a client's metadata, in lower case. Raises Refused for a name that never holds a value."""
    name = element.text("the name of a metadata key").lower()
    if not is_name(name):
        raise element.refuse(f"expected the name of a metadata key, found {element.found}")
    if is_binary(name):
        raise element.refuse("the value must be text, and metadata whose name ends in -bin has bytes")
    if name.startswith(AMAZON):
        raise element.refuse("x-amz… names are AWS's: what a client sends under them never counts")
    if name.startswith("grpc-") or name in _NOT_METADATA:
        raise element.refuse(f"clients cannot send metadata named {element.found}")
    return name


@dataclass(frozen=True, slots=True)
class TenantSource:
    """Where the tenant of a call comes from: exactly one of these."""

    metadata: Annotated[str | None, optional(metadata_name)] = None
    """The name of a client's metadata, in lower case. The client is believed."""
    certificate: Literal["uri", "cn"] | None = None
    """The URI in the subjectAltName, or the common name, of the client's verified certificate."""
    constant: str = ""
    """The tenant of all calls."""

    def misfits(self, written: Collection[str]) -> Iterator[tuple[str, str]]:
        if len(written) != 1:
            yield "", 'needs either "metadata" or "certificate"'


_read_mapping = mapping(TenantSource)


def tenant_source(element: Element) -> TenantSource:
    """Read a constant, or a mapping that says where the tenant comes from. Raises Refused."""
    if element.is_mapping:
        return _read_mapping(element)
    found = element.text(_EXPECTED)
    if not is_tenant(found):
        raise element.refuse(f"expected {_EXPECTED}; a tenant is {TENANT_RULE}; found {element.found}")
    return TenantSource(constant=found)
