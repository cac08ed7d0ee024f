"""How the `headers` of a target are read."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bridge.config.element import Element
from bridge.config.problems import Refused
from bridge.config.values import TEXTS, shaped
from bridge.rpc.hop import Leg, not_passed

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
"""A token of RFC 9110 5.6.2."""

_VALUE = re.compile(r"[\x20-\x7e]{0,8192}")

_SET_BY_BRIDGE = not_passed(Leg.CONFIGURED)
"""Headers that the bridge writes itself, or that are between two hops."""


def headers(element: Element) -> Mapping[str, str]:
    """By name in lower case. The values may be secrets."""
    found: dict[str, str] = {}
    for key, value in element.hidden().keys().items():
        name = key.lower()
        try:
            if not _NAME.fullmatch(name):
                raise value.refuse("not the name of a header")
            if name in _SET_BY_BRIDGE or name.startswith("grpc-"):
                raise value.refuse("the bridge sets this header itself")
            if name in found:
                raise value.refuse("written twice: header names have no case")
            text = value.text()
            if not _VALUE.fullmatch(text):
                raise value.refuse("a header's value is visible ASCII, at most 8KiB")
        except Refused as refused:
            element.document.note(refused)
            continue
        found[name] = text
    return found


shaped(headers, TEXTS)
