"""`tenant`: where the tenant of a call comes from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from bridge.aws.tenancy import TENANT_RULE, is_tenant
from bridge.config.element import Element
from bridge.config.reading import mapping
from bridge.config.values import metadata_name, optional, shape_of, shaped

_EXPECTED = "the name of a tenant, {metadata: NAME}, {certificate: uri} or {certificate: cn}"


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


shaped(tenant_source, lambda: {"anyOf": [{"type": "string"}, shape_of(_read_mapping)]})
