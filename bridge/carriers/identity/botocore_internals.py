"""Private names and English texts of botocore. No other module of the bridge uses any.

Releases of botocore may change them without notice, so `tests/unit/carriers/identity/test_botocore_internals.py` asks
the installed release for each one. Tried with botocore 1.43.0 and 1.44.5.
"""

from __future__ import annotations

import re
from datetime import datetime

EXPIRED = "still expired"
"""In the RuntimeError of credentials that have expired when they arrive."""
BROKEN_HEADER = "not a legal header value"
"""In the ValueError of an authorization token with a line break."""
BAD_HOST = "Unsupported host"
"""In the ValueError of a credentials URL in plain HTTP that leads to another machine."""
NOT_JSON = "parse JSON"
"""In the error of a metadata server whose answer is not JSON."""

find_missing_key = re.compile(r"Missing required key in response: '(\w{1,40})'").search
"""The key that the output of a credential process lacks, as the first group."""
find_unknown_version = re.compile(r"Unsupported version").search
"""Whether the output of a credential process has a version that botocore does not know."""
find_http_status = re.compile(r"non 200 response \(?(\d{3})").search
"""The HTTP status of a metadata server's answer, as the first group."""


def expiry_of(credentials: object) -> datetime | None:
    """When botocore's credentials expire; None for those that last."""
    return getattr(credentials, "_expiry_time", None)
