"""Function names: what callers may write in a path, and the ARNs of the local Lambda.

Account and region of an ARN are not compared: configurations written for AWS run here unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from bridge.aws.arn import FUNCTION_PATTERN, QUALIFIER_PATTERN, REGION_PATTERN
from bridge.emulator.api import refusals
from bridge.rpc.value import FrozenValue

Kind = TypeVar("Kind")

REGION = "us-east-1"
ACCOUNT = "123456789012"

# botocore's shape NamespacedFunctionName: a name, a partial ARN or an ARN, each with or without a qualifier.
NAME = re.compile(
    rf"(?:arn:aws[a-z-]*:lambda:)?(?:{REGION_PATTERN}:)?(?:[0-9]{{12}}:)?(?:function:)?{FUNCTION_PATTERN}"
)
QUALIFIER = re.compile(QUALIFIER_PATTERN)
NUMBERED_VERSION = re.compile(r"[0-9]+")


def url_domain(name: str) -> str:
    """Return the host name of a function's URL: AWS's, but below `localhost`, whose names mean loopback (RFC 6761)."""
    return f"{name}.lambda-url.{REGION}.localhost"


def web_domain(name: str) -> str:
    """Return the host name of a Web Function's endpoint. On AWS it begins with two random parts."""
    return f"{name}.lambda-web.{REGION}.localhost"


def by_host_name(functions: Mapping[str, Kind], name: str) -> Kind | None:
    """Return the function that a host name means. Host names have no case, functions' names have."""
    if name in functions:
        return functions[name]
    return next((function for known, function in functions.items() if known.lower() == name.lower()), None)


class FunctionId(FrozenValue, frozen=True):
    """A function and, if the caller named one, the version or alias."""

    name: str
    qualifier: str | None = None

    @property
    def arn(self) -> str:
        """As the function sees it in `invoked_function_arn`: with the qualifier that the caller used."""
        suffix = f":{self.qualifier}" if self.qualifier else ""
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name}{suffix}"

    @property
    def is_published_version(self) -> bool:
        """The request names a version number, but nothing is ever published here. Any alias means $LATEST."""
        return self.qualifier is not None and NUMBERED_VERSION.fullmatch(self.qualifier) is not None


def parse_function_name(text: str, qualifier: str | None) -> FunctionId:
    """Raise a Refusal for what AWS refuses: an unreadable name, or two qualifiers that differ."""
    match = NAME.fullmatch(text)
    if match is None or (qualifier is not None and QUALIFIER.fullmatch(qualifier) is None):
        raise refusals.InvalidName
    derived = match["qualifier"]
    if derived is not None and qualifier is not None and derived != qualifier:
        raise refusals.QualifierMismatch
    return FunctionId(match["name"], derived or qualifier)
