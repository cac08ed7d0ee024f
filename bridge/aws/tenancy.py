"""Tenant isolation: the header that names the tenant of an invocation, and the names that AWS takes.

https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html
"""

from __future__ import annotations

import re

from bridge.aws.sigv4 import HeaderPairs

TENANT_HEADER = "x-amz-tenant-id"

TENANT_RULE = "1 to 256 of A-Z a-z 0-9 . _ : / = + - @ and spaces, with no space at either end"

# Lambda's API model, TenantId. HTTP drops spaces at the ends of a value (RFC 9110 5.5), so AWS would get another name.
_TENANT = re.compile(r"(?! )[a-zA-Z0-9._:/=+\-@ ]{1,256}(?<! )")


def is_tenant(text: str) -> bool:
    """Whether AWS gets and takes this as the name of a tenant."""
    return _TENANT.fullmatch(text) is not None


def tenant_header(tenant: str) -> HeaderPairs:
    """Return the header that an invocation for this tenant has."""
    return ((TENANT_HEADER, tenant),)
