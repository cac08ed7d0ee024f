"""google.api.http: from a method's annotation to its bindings, and path templates (google/api/http.proto) to patterns.

The annotation is an extension of MethodOptions. It is read from the option's bytes, so that it counts whether or not
googleapis-common-protos, or a copy of its .proto, is loaded.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from lambda_fn import transcode, wire
from lambda_fn.percent import segments_in, text_in

_logger = logging.getLogger("lambda_fn")

_HTTP = 72295728
"""`google.api.http` among the extensions of google.protobuf.MethodOptions."""

# Fields of google.api.HttpRule.
_VERBS = {2: "GET", 3: "PUT", 4: "POST", 5: "DELETE", 6: "PATCH"}
_BODY, _CUSTOM, _ADDITIONAL, _RESPONSE_BODY = 7, 8, 11, 12

_tokens = re.compile(r"\{([\w.]+)(?:=([^{}]*))?\}|([^/{}]+)|(/)").match

# How late the route of a template with such a segment is asked: those that say more go first.
_LITERAL, _ONE, _ANY = 0, 1, 2


Values = tuple[tuple[tuple[str, ...], str], ...]
"""Paths of field names, and what a request's path has for them."""


class Variable(NamedTuple):
    """A field that the path fills."""

    field: tuple[str, ...]
    spans_segments: bool

    def value(self, text: str | None) -> str:
        """Return the field's value for what the pattern found. Raises Refused for what is not encoded text."""
        return (segments_in if self.spans_segments else text_in)(text or "")


class Template(NamedTuple):
    """A path template, compiled."""

    pattern: re.Pattern[str]
    """One group a variable."""
    variables: tuple[Variable, ...]
    rank: tuple[int, ...]
    """Lower ones are asked first."""
    has_verb: bool
    """Whether it ends in a custom verb, `:publish`."""

    def match(self, path: str) -> Values | None:
        """Return the fields that this path fills, or None if it is another path. Raises Refused for a path that is not
        encoded text.
        """
        found = self.pattern.fullmatch(path)
        return None if found is None else self.values(found)

    def values(self, found: re.Match[str]) -> Values:
        """Return the fields that a path fills which the pattern has matched. Raises Refused for a path that is not
        encoded text.
        """
        return tuple(
            (variable.field, variable.value(text))
            for variable, text in zip(self.variables, found.groups(), strict=True)
        )


class Binding(NamedTuple):
    """One HTTP verb and path that lead to a method."""

    verb: str
    """`*`: any."""
    template: Template
    body: str
    """`*` means that the body is the request message. A name means that field. Empty means that no body is read."""
    response_body: str
    """The field that is the reply's body; empty: the whole message."""
    method: str
    """`/package.Service/Method`."""
    descriptor: Any
    """The MethodDescriptor."""


def compile_template(text: str) -> Template:
    """Compile a template. Raises ValueError, saying what is wrong."""
    path, verb = _without_verb(text)
    if not path.startswith("/"):
        raise ValueError(f"{text!r} is no path template: it begins with a slash")
    pattern: list[str] = []
    variables: list[Variable] = []
    ranks: list[int] = []
    at = 0
    while at < len(path):
        token = _tokens(path, at)
        if token is None:
            raise ValueError(f"{text!r} is no path template: {path[at:]!r}")
        field, inner, segment, slash = token.groups()
        at = token.end()
        if slash:
            pattern.append("/")
            continue
        if pattern[-1] != "/":
            raise ValueError(f"{text!r} is no path template: a slash parts its segments")
        segments = (segment or inner or "*").split("/")
        if "**" in segments[:-1] or ("**" in segments and at < len(path)):
            raise ValueError(f"{text!r} is no path template: ** is the last of its segments")
        if field is not None:
            several = len(segments) > 1 or segments == ["**"]
            variables.append(Variable(tuple(field.split(".")), several))
        if segments == ["**"]:
            # None is a number of segments, too. The slash before them goes with them.
            pattern[-1] = "(?:/.*)?" if field is None else "(?:/(.*))?"
        else:
            source = _pattern_of(segments)
            pattern.append(source if field is None else f"({source})")
        ranks += map(_rank_of, segments)
    if len({variable.field for variable in variables}) < len(variables):
        raise ValueError(f"{text!r} is no path template: it has a variable twice")
    end = re.escape(f":{verb}") if verb else ""
    return Template(re.compile("".join(pattern) + end), tuple(variables), (not verb, *ranks), bool(verb))


def _without_verb(text: str) -> tuple[str, str]:
    """Return a template's path and its custom verb: `/v1/{name=shelves/*}:merge`."""
    last = max(text.rfind("/"), text.rfind("}"))
    colon = text.find(":", last + 1)
    return (text, "") if colon < 0 else (text[:colon], text[colon + 1 :])


def _pattern_of(segments: list[str]) -> str:
    if segments[-1] == "**":
        return _pattern_of(segments[:-1]) + "(?:/.*)?"
    return "/".join("[^/]+" if each == "*" else re.escape(each) for each in segments)


def _rank_of(segment: str) -> int:
    return {"*": _ONE, "**": _ANY}.get(segment, _LITERAL)


def bindings_of(services: Iterable[str]) -> tuple[Binding, ...]:
    """Return the bindings of these services, in the order in which they are asked. Those that make no sense are logged
    and left out.
    """
    found = [binding for name in services for method in _methods_of(name) for binding in _bindings_of_method(method)]
    return tuple(sorted(found, key=lambda binding: binding.template.rank))


def _methods_of(service: str) -> Iterable[Any]:
    from google.protobuf import descriptor_pool

    try:
        methods: Iterable[Any] = descriptor_pool.Default().FindServiceByName(service).methods
    except KeyError:  # its methods are registered without a .proto
        return ()
    return methods


def _bindings_of_method(method: Any) -> Iterator[Binding]:
    for number, rule in wire.fields(method.GetOptions().SerializeToString()):
        if number != _HTTP or not isinstance(rule, bytes):
            continue
        additional = [found for number, found in wire.fields(rule) if number == _ADDITIONAL]
        for each in (rule, *additional):
            try:
                if isinstance(each, bytes) and (binding := _binding(method, each)) is not None:
                    yield binding
            except ValueError as error:
                _logger.error("google.api.http of %s: %s", method.full_name, error)  # noqa: TRY400 - the .proto's fault: no traceback


def _binding(method: Any, rule: bytes) -> Binding | None:
    fields = dict(wire.fields(rule))
    verb, path = _verb_and_path(fields)
    if not path:
        return None
    binding = Binding(
        verb,
        compile_template(path),
        wire.bytes_in(fields, _BODY).decode(),
        wire.bytes_in(fields, _RESPONSE_BODY).decode(),
        f"/{method.containing_service.full_name}/{method.name}",
        method,
    )
    for variable in binding.template.variables:
        found = transcode.find_field(method.input_type, variable.field)
        if found is None or found.is_repeated:
            raise ValueError(f"{'.'.join(variable.field)} is no single field of the request")
    if binding.body not in ("", "*") and transcode.find_field(method.input_type, (binding.body,)) is None:
        raise ValueError(f"the body {binding.body} is no field of the request")
    if binding.response_body not in ("", *method.output_type.fields_by_name):
        raise ValueError(f"the response_body {binding.response_body} is no field of the reply")
    return binding


def _verb_and_path(fields: dict[int, bytes | int]) -> tuple[str, str]:
    for number, verb in _VERBS.items():
        if number in fields:
            return verb, wire.bytes_in(fields, number).decode()
    custom = dict(wire.fields(wire.bytes_in(fields, _CUSTOM)))
    return wire.bytes_in(custom, 1).decode(), wire.bytes_in(custom, 2).decode()
