"""`auth`: what requests to an HTTP target are signed for. What is not written, the target's host must tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Annotated

from bridge.aws.hosts import ALL_REGIONS, signed_host
from bridge.config.element import Element, shown
from bridge.config.reading import mapping
from bridge.config.values import Read, choice, pattern, region, shape_of, shaped

_service = pattern(r"[a-z0-9-]{1,64}", "the name AWS signs the service under, such as lambda")


def _or_untold(read: Read[str]) -> Read[str]:
    """`null` leaves it to the host."""
    return lambda element: "" if element.is_null else read(element)


@dataclass(frozen=True, slots=True)
class IamAuth:
    """Requests are signed (SigV4) for this service and region. The region ALL_REGIONS means SigV4a."""

    service: Annotated[str, _or_untold(_service)] = ""
    region: Annotated[str, _or_untold(region)] = ""

    def completed(self, host: str, element: Element) -> IamAuth:
        """With what the host tells. `element` is where `auth` is written. Raises Refused if something is missing."""
        told = signed_host(host)
        known = self
        if told is not None:
            known = replace(self, service=self.service or told.service, region=self.region or told.region)
        if not known.service or not known.region:
            raise element.refuse(
                f"neither service nor region can be told from {shown(host)}: {{iam: {{service: …, region: …}}}}"
            )
        if known.region == ALL_REGIONS and find_spec("awscrt") is None:
            raise element.refuse(
                f"requests to {shown(host)} need a signature for all regions (SigV4a):"
                " pip install 'grpc-lambda-bridge[sigv4a]'"
            )
        return known


@dataclass(frozen=True, slots=True)
class _Auth:
    iam: IamAuth = IamAuth()


def auth(element: Element) -> IamAuth | None:
    """`none`, `iam` or `{iam: {service, region}}`."""
    if element.is_mapping:
        return mapping(_Auth)(element).iam
    return None if choice("none", "iam")(element) == "none" else IamAuth()


shaped(auth, lambda: {"anyOf": [{"enum": ["none", "iam"]}, shape_of(mapping(_Auth))]})
