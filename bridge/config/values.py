"""How single values are read: each reader takes an element, gives a checked value, or raises Refused saying what it
expected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from bridge.aws.arn import REGION_PATTERN, ROLE_PATTERN
from bridge.config.element import Element
from bridge.config.problems import Place, did_you_mean
from bridge.config.units import (
    BYTES,
    SECONDS,
    format_duration,
    format_percentage,
    format_size,
    parse_duration,
    parse_percentage,
    parse_size,
)
from bridge.rpc.address import Address, TcpAddress, UnixAddress
from bridge.rpc.hop import AMAZON, Leg, not_passed
from bridge.rpc.metadata import is_binary, is_name
from bridge.rpc.status import StatusCode
from bridge.rpc.url import ConnectTo, Url, is_host, is_host_name, is_ipv6

ValueType = TypeVar("ValueType")
Word = TypeVar("Word", bound=str)

Read: TypeAlias = Callable[[Element], ValueType]

MAX_CONFIG_DURATION = 365 * 24 * 3600.0
"""Seconds: no duration of a configuration is longer, and no timer overflows."""

_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}


# -- what a value looks like, for editors ------------------------------------------------------------------------------

JsonShape: TypeAlias = Mapping[str, object]
"""The JSON Schema of a value."""

_TEXT: JsonShape = {"type": "string"}
TEXTS: JsonShape = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
"""A mapping of texts."""


def shaped(read: Read[ValueType], shape: JsonShape | Callable[[], JsonShape]) -> Read[ValueType]:
    """Note what the reader takes. The function makes a shape that is known only later."""
    setattr(read, "shape", shape)  # noqa: B010 - a function's attribute, which no type knows
    return read


def shape_of(read: Read[Any]) -> JsonShape:
    """Return what the reader takes. Without a note it takes text."""
    shape: JsonShape | Callable[[], JsonShape] = getattr(read, "shape", _TEXT)
    return shape() if callable(shape) else shape


# -- readers of plain values -------------------------------------------------------------------------------------------


def optional(read: Read[ValueType]) -> Read[ValueType | None]:
    """`null` is a value here."""

    def read_optional(element: Element) -> ValueType | None:
        return None if element.is_null else read(element)

    return shaped(read_optional, lambda: {"anyOf": [shape_of(read), {"type": "null"}]})


def text(element: Element) -> str:
    """Read a text. Raises Refused for an empty one."""
    found = element.text()
    if not found:
        raise element.refuse("must not be empty")
    return found


def boolean(element: Element) -> bool:
    """Read true or false, in any case. Raises Refused."""
    found = _BOOLEANS.get(element.text("true or false").lower())
    if found is None:
        raise element.refuse(f"expected true or false, found {element.found}")
    return found


def choice(*words: Word) -> Read[Word]:
    """Return a reader of one of these words. It raises Refused, and names the nearest word."""
    expected = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]

    def read_choice(element: Element) -> Word:
        found = element.text(expected)
        for word in words:
            if found == word:
                return word
        raise element.refuse(f"expected {expected}, found {element.found}" + did_you_mean(found, words))

    return shaped(read_choice, {"enum": [*words]})


def integer(least: int, most: int) -> Read[int]:
    """Return a reader of a whole number from `least` to `most`. It raises Refused."""
    expected = f"a whole number from {least:,} to {most:,}"

    def read_integer(element: Element) -> int:
        found = element.text(expected)
        # YAML 1.1 would read 010 as eight and 1:30 as ninety; here a number is decimal digits.
        if re.fullmatch(r"0|-?[1-9][0-9_]{0,18}", found) and least <= int(found) <= most:
            return int(found)
        raise element.refuse(f"expected {expected}, found {element.found}")

    return shaped(read_integer, {"type": "integer", "minimum": least, "maximum": most})


def weight(element: Element) -> float:
    """Read the weight of a target in a split: a decimal number above 0. Raises Refused."""
    expected = "a weight: a number above 0"
    found = element.text(expected)
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", found) or float(found) <= 0:
        raise element.refuse(f"expected {expected}, found {element.found}")
    return float(found)


def duration(least: float, most: float = MAX_CONFIG_DURATION) -> Read[float]:
    """`least` 0: none at all is a value; else a value must be at least so long."""

    def read_duration(element: Element) -> float:
        seconds = _parsed(element, parse_duration, "a duration such as 250ms, 5s, 2m or 1h")
        if not least <= seconds <= most:
            bounds = f"from {format_duration(least)} to {format_duration(most)}"
            raise element.refuse(f"expected a duration {bounds}, found {element.found}")
        return seconds

    return shaped(read_duration, {"type": "string", "pattern": f"^([0-9.]+({'|'.join(SECONDS)}))+$"})


def size(least: int, most: int) -> Read[int]:
    """Return a reader of a size from `least` to `most` bytes. It raises Refused."""

    def read_size(element: Element) -> int:
        found = _parsed(element, parse_size, "a size such as 512B, 64KiB or 4MiB")
        if not least <= found <= most:
            bounds = f"from {format_size(least)} to {format_size(most)}"
            raise element.refuse(f"expected a size {bounds}, found {element.found}")
        return found

    return shaped(read_size, {"type": "string", "pattern": f"^[0-9.]+ ?({'|'.join(BYTES)})$"})


def percentage(element: Element) -> float:
    """Read a percentage as a part from 0 to 1. Raises Refused."""
    found = _parsed(element, parse_percentage, "a percentage such as 20%")
    if found > 1:
        raise element.refuse(f"expected a percentage up to {format_percentage(1.0)}, found {element.found}")
    return found


shaped(boolean, {"enum": [True, False, *_BOOLEANS]})
shaped(weight, {"type": "number", "exclusiveMinimum": 0})
shaped(percentage, {"type": "string", "pattern": "^[0-9.]+ ?%$"})


def throttled_as(element: Element) -> StatusCode:
    return StatusCode[_throttled_as(element)]


_throttled_as = choice("UNAVAILABLE", "RESOURCE_EXHAUSTED")
shaped(throttled_as, shape_of(_throttled_as))


def _parsed(element: Element, parse: Callable[[str], ValueType], expected: str) -> ValueType:
    try:
        return parse(element.text(expected))
    except ValueError as error:
        # Of a value that a variable brought in, not even a hint is shown.
        hint = str(error) if "$" not in element.node.value else f"expected {expected}"
        raise element.refuse(f"{hint}, found {element.found}") from error


def pattern(expression: str, expected: str) -> Read[str]:
    """Return a reader of a text that matches the whole `expression` (ASCII). It raises Refused, and says `expected`."""
    matches = re.compile(expression, re.ASCII).fullmatch

    def read_pattern(element: Element) -> str:
        found = element.text(expected)
        if not matches(found):
            raise element.refuse(f"expected {expected}, found {element.found}")
        return found

    is_common = "(?P<" not in expression  # what JavaScript reads, too
    return shaped(read_pattern, {"type": "string", "pattern": f"^(?:{expression})$"} if is_common else _TEXT)


# -- files -------------------------------------------------------------------------------------------------------------


_FOLDER = "folder"


def path(element: Element) -> Path:
    """Return a path, relative to the file that names it; what it leads to is not looked at."""
    found = text(element)
    if "\0" in found:
        raise element.refuse("a path holds no NUL")
    return element.document.folder / found


def file(element: Element) -> Path:
    """Return a file that is there and may be read."""
    found = _existing(element, "file")
    if not found.is_file():
        raise element.refuse(f"expected a file, {element.found} is none")
    return _readable(element, found)


def folder(element: Element) -> Path:
    """Read the path of a folder that exists and may be read. Raises Refused."""
    found = _existing(element, _FOLDER)
    if not found.is_dir():
        raise element.refuse(f"expected a folder, {element.found} is none")
    return _readable(element, found)


def file_or_folder(element: Element) -> Path:
    return _readable(element, _existing(element, "file or folder"))


@dataclass(frozen=True, slots=True)
class DescriptorsPath:
    """What `descriptors` names: a FileDescriptorSet, or a folder of .proto files."""

    path: Path
    place: Place = field(compare=False)
    """Where it is written, for messages about what is in it."""

    @property
    def is_default(self) -> bool:
        """Whether it comes from `defaults`, so that it need not describe every service."""
        return self.place.key_path.startswith("defaults")


def descriptors_path(element: Element) -> DescriptorsPath:
    return DescriptorsPath(file_or_folder(element), element.place)


def _existing(element: Element, kind: str) -> Path:
    found = path(element)
    if kind != _FOLDER:  # such a folder is a function's, and `reload` follows it
        element.document.named_files.add(found)
    try:
        exists = found.exists()
    except OSError:  # a name too long, a folder on the way that may not be searched
        exists = False
    if not exists:
        raise element.refuse(f"no such {kind}: {element.found}")
    return found


def _readable(element: Element, found: Path) -> Path:
    if not os.access(found, os.R_OK):
        raise element.refuse(f"{element.found} may not be read by this user")
    return found


# -- addresses ---------------------------------------------------------------------------------------------------------

_ABSTRACT = "unix-abstract:"
"""gRPC's name for sockets that are no files, which others write as `unix:@NAME`."""
_MAX_SOCKET_PATH = 107
"""sun_path of unix(7), less its NUL."""


def tcp_address(element: Element) -> TcpAddress:
    return _parse_tcp(element, element.text("an address such as 127.0.0.1:50051"), least_port=0)


def address(element: Element) -> Address:
    """Read the address of a listener: HOST:PORT or unix:PATH. Port 0 lets the system choose. Raises Refused."""
    found = element.text("an address such as 127.0.0.1:50051 or unix:/run/bridge.sock")
    if found.startswith(("unix:", _ABSTRACT)):
        return socket_path(element, found)
    return _parse_tcp(element, found, least_port=0)


def socket_path(element: Element, found: str) -> UnixAddress:
    """`unix:PATH`, or `unix:///PATH` as gRPC's own names have it."""
    name = found.removeprefix("unix:")
    if found.startswith(_ABSTRACT) or name.startswith("@"):
        raise element.refuse(
            "abstract sockets are not supported, because every user of the machine may connect to one: "
            "name a path, such as unix:/run/bridge.sock (a file whose name begins with @: unix:./@NAME)"
        )
    if name.startswith("//"):
        name = name[2:]
        if not name.startswith("/"):
            raise element.refuse(f"expected unix:PATH or unix:///PATH, found {element.found}")
    if not name or "\0" in name:
        raise element.refuse("expected a path after unix:")
    path = element.document.folder / name
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise element.refuse(f"a socket's path has {_MAX_SOCKET_PATH} bytes at most, this is longer")
    return UnixAddress(path)


def socket_mode(element: Element) -> int:
    """Return the permissions of a Unix socket: three octal digits in quotes."""
    expected = 'the permissions in quotes, such as "0660"'
    found = element.text(expected)
    if not element.is_quoted:
        raise element.refuse(f"write {expected}, found {element.found} without: YAML reads 0660 as the number 432")
    if not re.fullmatch(r"0?[0-7]{3}", found):
        raise element.refuse(f"expected {expected}, found {element.found}")
    return int(found, 8)


def host_and_port(element: Element, found: str) -> TcpAddress:
    """Return a place to connect to."""
    return _parse_tcp(element, found, least_port=1)


def reachable_address(element: Element) -> TcpAddress:
    """Return an address that others dial: never a wildcard, never port 0."""
    found = _parse_tcp(element, element.text("an address such as 10.0.3.7:50052"), least_port=1)
    if found.host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        raise element.refuse(f"{found.host} is no address that a function can dial")
    return found


def connect_to(element: Element) -> ConnectTo:
    """Read HOST or HOST:PORT."""
    found = element.text("HOST or HOST:PORT")
    if not found:
        raise element.refuse("expected HOST or HOST:PORT")
    if ":" in found and not found.endswith("]"):
        place = _parse_tcp(element, found, least_port=1)
        return ConnectTo(place.host, place.port)
    return ConnectTo(_parse_tcp(element, f"{found}:1", least_port=1).host)


def _parse_tcp(element: Element, found: str, *, least_port: int) -> TcpAddress:
    host, colon, port = found.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not least_port <= int(port[:6]) <= 65535:
        raise element.refuse(f"expected HOST:PORT, the port from {least_port} to 65535, found {element.found}")
    if host in {"", "*"}:
        raise element.refuse("name the host: 127.0.0.1 for this machine only, 0.0.0.0 for all")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not is_ipv6(host):
            raise element.refuse(f"expected an IPv6 address in the brackets, found {element.found}")
    elif ":" in host:
        raise element.refuse(f"an IPv6 address needs brackets: [::1]:50051, found {element.found}")
    elif not is_host(host):
        raise element.refuse(f"expected a host name or IP address, found {element.found}")
    return TcpAddress(host, int(port))


def server_name(element: Element) -> str:
    """Read a host name for TLS (SNI and the certificate's check). Raises Refused."""
    name = element.text("a host name")
    if not is_host(name):
        raise element.refuse(f"expected a host name, found {element.found}")
    return name


def host_names(element: Element) -> tuple[str, ...]:
    """Return a list of host names; `*.NAME` stands for all names below NAME."""
    return tuple(_host_name(item) for item in element.items())


shaped(host_names, {"type": "array", "items": _TEXT})


def _host_name(element: Element) -> str:
    found = element.text("a host name")
    if not is_host_name(found.removeprefix("*.")):
        raise element.refuse(
            f"expected a host name without a port, such as bridge.example.com or *.example.com, found {element.found}"
        )
    return found


def url(element: Element) -> Url:
    return read_url(element, element.text("a URL: http:// or https://"))


def read_url(element: Element, found: str) -> Url:
    """`http://` or `https://`, with a path at most. Never quotes the user's credentials."""
    try:
        return Url.parse(found, quoted=element.found)
    except ValueError as error:
        raise element.refuse(str(error)) from error


# -- gRPC --------------------------------------------------------------------------------------------------------------

_NOT_METADATA = not_passed(Leg.CALL)


def metadata_name(element: Element) -> str:
    """Read the name of a client's metadata, in lower case. Raises Refused for a name that never holds a value."""
    name = element.text("the name of a metadata key").lower()
    if not is_name(name):
        raise element.refuse(f"expected the name of a metadata key, found {element.found}")
    if is_binary(name):
        raise element.refuse("the value must be text, and metadata whose name ends in -bin has bytes")
    if name.startswith(AMAZON):
        raise element.refuse("x-amz… names are AWS's: what a client sends under them never counts")
    if name.startswith("grpc-") or name in _NOT_METADATA:
        raise element.refuse(f"clients cannot send metadata named {element.found}")
    return name


# -- AWS ---------------------------------------------------------------------------------------------------------------

region = pattern(REGION_PATTERN, "a region such as eu-west-1")

role_arn = pattern(ROLE_PATTERN, "the ARN of a role: arn:aws:iam::ACCOUNT:role/NAME")
# The STS API model, AssumeRole.
external_id = pattern(r"[\w+=,.@:/-]{2,1224}", "an external id: 2 to 1,224 of A-Z a-z 0-9 _+=,.@:/-")
session_name = pattern(r"[\w+=,.@-]{2,64}", "a session name: 2 to 64 of A-Z a-z 0-9 _+=,.@-")
profile = pattern(r"[^\0-\x1f\x7f\[\]]{1,128}", "the name of a profile")
