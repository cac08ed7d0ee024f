"""The text of a target taken apart: `arn:…`, `function:NAME`, `http(s)://`, `grpc(s)://`, `unix:PATH`, `local:NAME`."""

from __future__ import annotations

import re
from collections.abc import Callable

from bridge.aws.arn import FunctionName
from bridge.config.element import Element
from bridge.config.problems import did_you_mean
from bridge.config.schema import GrpcTargetSpec, HttpTargetSpec, LambdaTargetSpec, LocalTarget, Target
from bridge.config.values import host_and_port, read_url, socket_path

EXPECTED = "a target: arn:…, function:NAME, http://, https://, grpc://, grpcs://, unix:PATH or local:NAME"

FUNCTION_NAME = r"[A-Za-z0-9_-]{1,64}"
"""Of a local function: what AWS allows too."""
_LOCAL = re.compile(FUNCTION_NAME)

_SCHEMES = ("arn:", "function:", "http://", "https://", "grpc://", "grpcs://", "unix:", "unix-abstract:", "local:")


def target(element: Element) -> Target:
    return parse_target(element, element.text(EXPECTED))


def parse_target(element: Element, text: str) -> Target:
    """`element` says where the text is written. Raises Refused."""
    scheme = next((scheme for scheme in _SCHEMES if text.startswith(scheme)), None)
    rest = text.removeprefix(scheme or "")
    match scheme:
        case "arn:":
            return _function(element, FunctionName.from_arn, text)
        case "function:":
            return _function(element, FunctionName.from_name, rest)
        case "http://" | "https://":
            return HttpTargetSpec(read_url(element, text))
        case "grpc://" | "grpcs://":
            return GrpcTargetSpec(host_and_port(element, rest), tls=scheme == "grpcs://")
        case "unix:" | "unix-abstract:":
            return GrpcTargetSpec(socket_path(element, text))
        case "local:":
            return _local(element, rest)
    raise element.refuse(f"expected {EXPECTED}; found {element.found}{_guess(text)}")


def _function(element: Element, read: Callable[[str], FunctionName], text: str) -> LambdaTargetSpec:
    try:
        return LambdaTargetSpec(read(text))
    except ValueError as error:
        raise element.refuse(f"{error}, found {element.found}") from error


def _local(element: Element, text: str) -> LocalTarget:
    if not _LOCAL.fullmatch(text):
        raise element.refuse(f"expected local:NAME, found {element.found}")
    return LocalTarget(text)


def _guess(text: str) -> str:
    scheme, colon, _ = text.partition(":")
    if not colon:
        return "; is it the name of a function? Then function:NAME"
    return did_you_mean(scheme, [known.rstrip(":/") for known in _SCHEMES])
