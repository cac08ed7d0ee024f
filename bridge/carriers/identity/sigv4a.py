"""Signs requests for all regions: SigV4a, with awscrt (the extra `sigv4a`).

SigV4 derives its key for one region. SigV4a signs with an elliptic-curve key, so one signature holds in every region
that it names. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from bridge.aws.hosts import ALL_REGIONS
from bridge.aws.sigv4 import Credentials, HeaderPairs


async def sign_for_all_regions(
    credentials: Credentials, *, service: str, path: str, headers: HeaderPairs, payload_hash: str, now: float
) -> HeaderPairs:
    """Return the fields to add to a POST: the hash of the body, the regions, the date, the session token and the
    authorization. `headers` are signed as well. `path` is percent-encoded, as it is sent. `now`: Unix seconds.
    """
    from awscrt import auth, http

    request = http.HttpRequest("POST", path, http.HttpHeaders(list(headers)))
    token = credentials.token or None
    keys = auth.AwsCredentialsProvider.new_static(credentials.access_key, credentials.secret_key, token)
    config = auth.AwsSigningConfig(
        algorithm=auth.AwsSigningAlgorithm.V4_ASYMMETRIC,
        signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=keys,
        region=ALL_REGIONS,
        service=service,
        date=datetime.fromtimestamp(int(now), UTC),
        signed_body_value=payload_hash,
        signed_body_header_type=auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
    )
    signed = await asyncio.wrap_future(auth.aws_sign_request(request, config))
    given = {name.lower() for name, _ in headers}
    return tuple((name.lower(), value) for name, value in signed.headers if name.lower() not in given)
