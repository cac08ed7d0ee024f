"""The event of an Application Load Balancer's Lambda target group: a call becomes the JSON that a function behind one
gets.

The reply is the one that http_reply reads; its statusDescription says nothing that statusCode does not.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
"""

from __future__ import annotations

from urllib.parse import quote

from bridge.aws.events.event_body import GRPC_WEB, BodyKind, object_with_body
from bridge.aws.events.event_headers import HeaderWriter
from bridge.rpc.call import CallFacts, ClientCertificate
from bridge.rpc.metadata import Metadata, clean_value

_TARGET_GROUP = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/bridge/0123456789abcdef"
"""There is no balancer, but some runtimes require a target group's ARN."""

_SAFE_IN_PEM = "+=/"
"""Characters that the balancer does not encode in the certificate."""


class AlbEventEncoder:
    """Encodes calls as events."""

    __slots__ = ("_headers", "_is_text")

    def __init__(self, instance: str, kind: BodyKind = GRPC_WEB) -> None:  # noqa: ARG002 - all shapes are made alike; this one has no request id
        self._headers = HeaderWriter(kind)
        self._is_text = kind.is_text

    def encode(
        self,
        call: CallFacts,
        metadata: Metadata,
        body: bytes,
        *,
        timeout: float | None,
        now: float,  # noqa: ARG002 - this shape tells no time
    ) -> bytes:
        """Return the event. The arguments are those of http_v2. Raises PayloadTooLarge."""
        _, headers = self._headers.write_ready(call, metadata, timeout=timeout)
        if call.peer.certificate is not None:
            headers |= _certificate_headers(call.peer.certificate)
        # A target group sends one of the two, depending on its settings. A function reads the one that it knows.
        event = {
            "requestContext": {"elb": {"targetGroupArn": _TARGET_GROUP}},
            "httpMethod": "POST",
            "path": call.path,
            "queryStringParameters": {},
            "multiValueQueryStringParameters": {},
            "headers": self._headers.constant | headers,
            "multiValueHeaders": self._headers.listed(metadata, headers),
            "isBase64Encoded": not self._is_text,
        }
        return object_with_body(event, body, call, is_text=self._is_text)


def _certificate_headers(certificate: ClientCertificate) -> dict[str, str]:
    """Return a verified client certificate as a balancer in verify mode passes it on."""
    validity = f"NotBefore={certificate.not_before};NotAfter={certificate.not_after}"
    told = {
        "serial-number": certificate.serial_number,
        "issuer": certificate.issuer,
        "subject": certificate.subject,
        "validity": validity,
        "leaf": quote(certificate.pem, safe=_SAFE_IN_PEM),
    }
    return {f"x-amzn-mtls-clientcert-{name}": clean_value(value) for name, value in told.items()}
