"""`auth`: what requests to an HTTP target are signed for. What is not written, the target's host must tell."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated

from bridge.aws.arn import REGION_PATTERN
from bridge.config.element import Element, shown
from bridge.config.reading import mapping
from bridge.config.values import Read, choice, pattern, region

_HOSTS = (
    (re.compile(rf".+\.lambda-url\.({REGION_PATTERN})\.on\.aws"), "lambda"),
    (re.compile(rf".+\.execute-api\.({REGION_PATTERN})\.amazonaws\.com(?:\.cn)?"), "execute-api"),
)
"""Hosts whose name says what requests are signed for."""

_service = pattern(r"[a-z0-9-]{1,64}", "the name AWS signs the service under, such as lambda")


def _or_untold(read: Read[str]) -> Read[str]:
    """`null` leaves it to the host."""
    return lambda element: "" if element.is_null else read(element)


@dataclass(frozen=True, slots=True)
class IamAuth:
    """Requests are signed (SigV4) for this service and region."""

    service: Annotated[str, _or_untold(_service)] = ""
    region: Annotated[str, _or_untold(region)] = ""

    def completed(self, host: str, element: Element) -> IamAuth:
        """With what the host tells. `element` is where `auth` is written. Raises Refused if something is missing."""
        known = self
        for name, service in _HOSTS:
            if matched := name.fullmatch(host.lower()):
                known = replace(self, service=self.service or service, region=self.region or matched[1])
        if not known.service or not known.region:
            raise element.refuse(
                f"neither service nor region can be told from {shown(host)}: {{iam: {{service: …, region: …}}}}"
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
