"""Hosts of AWS whose name says how requests to them are signed, and which permission the caller needs."""

from __future__ import annotations

import re

from msgspec.structs import replace

from bridge.aws.arn import REGION_PATTERN
from bridge.rpc.value import FrozenValue

ALL_REGIONS = "*"
"""The region of a signature that holds in all regions. Such a signature is SigV4a.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""


class SignedHost(FrozenValue, frozen=True):
    """What a host's name tells."""

    service: str
    """The name that AWS signs the service under."""
    region: str
    """A region, or ALL_REGIONS."""
    permission: str
    """The IAM action that the caller needs."""
    needs_hash: bool = False
    """Whether `x-amz-content-sha256` must be sent and signed."""


_FUNCTION_URL = SignedHost("lambda", ALL_REGIONS, "lambda:InvokeFunctionUrl")
_API_GATEWAY = SignedHost("execute-api", ALL_REGIONS, "execute-api:Invoke")
# The endpoint of a Web Function answers 403 without x-amz-content-sha256, even to a valid signature (AWS Lambda
# Developer Guide, "Web functions: endpoint access control").
_WEB_FUNCTION = SignedHost("lambda", ALL_REGIONS, "lambda:InvokeWebFunctionEndpoint", needs_hash=True)

_HOSTS = (
    (re.compile(rf".+\.lambda-url\.(?P<region>{REGION_PATTERN})\.on\.aws"), _FUNCTION_URL),
    (re.compile(rf".+\.lambda-web\.(?:(?P<region>{REGION_PATTERN})|global)\.on\.aws"), _WEB_FUNCTION),
    (re.compile(rf".+\.execute-api\.(?P<region>{REGION_PATTERN})\.amazonaws\.com(?:\.cn)?"), _API_GATEWAY),
)
"""A name without a region is that of an endpoint in several regions."""

_PERMISSIONS = {kind.service: kind.permission for kind in (_FUNCTION_URL, _API_GATEWAY)}


def signed_host(host: str) -> SignedHost | None:
    """Return what this host's name tells, or None if it tells nothing."""
    for pattern, kind in _HOSTS:
        if found := pattern.fullmatch(host.lower()):
            return replace(kind, region=found["region"] or ALL_REGIONS)
    return None


def permission_for(host: str, service: str) -> str:
    """Return the IAM action that a caller needs, as far as the host or the service tells."""
    known = signed_host(host)
    return known.permission if known is not None else _PERMISSIONS.get(service, "the right")
