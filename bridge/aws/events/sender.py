"""What the events of one client have in common: headers as JSON, and what else follows from them.

A client's calls often differ in the values of a few names, such as `traceparent`. After two such calls a template knows
these names. For the next call it fills in the values, and nothing else is encoded again.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.json import Encoder

from bridge.aws.events.event_headers import REMADE, SINGLE, needs_care
from bridge.rpc.metadata import Metadata, picker
from bridge.rpc.value import FrozenValue

_encode = Encoder().encode

_MOST_VARYING = 8
"""Names whose values a template fills in."""
_NEVER_VARYING = REMADE | SINGLE | {"user-agent"}
"""Names whose values do not stand in the headers as they were sent, or also stand elsewhere in the event."""


class _Gap(FrozenValue, frozen=True):
    """A place for a value."""

    place: int
    """Where its field is in the metadata."""
    name: str
    behind: bytes
    """What follows the value."""


class Template(FrozenValue, frozen=True):
    """The headers of calls whose metadata differ in the values of a few names."""

    steady: Callable[[Metadata], Metadata]
    """Picks the fields that do not differ, and (below) what it picks."""
    steady_fields: Metadata
    start: bytes
    gaps: tuple[_Gap, ...]

    def fits(self, metadata: Metadata) -> bool:
        """Whether this metadata, which has the expected number of fields, differs in nothing else."""
        return self.steady(metadata) == self.steady_fields and all(
            metadata[gap.place][0] == gap.name for gap in self.gaps
        )

    def fill(self, metadata: Metadata) -> bytes | None:
        """Return the headers as encode_headers makes them, or None if the template does not fit, or for rare values."""
        if self.steady(metadata) != self.steady_fields:
            return None
        parts = [self.start]
        for gap in self.gaps:
            name, value = metadata[gap.place]
            encoded = _encode(value)
            if name != gap.name or needs_care(encoded):
                return None
            parts += (encoded, gap.behind)
        return b"".join(parts)


class Sender:
    """The last call of one client, and a template for the next one."""

    __slots__ = ("context", "headers", "metadata", "template")

    def __init__(self, metadata: Metadata, headers: bytes, context: bytes, template: Template | None) -> None:
        self.metadata = metadata
        self.headers = headers
        """Up to their closing brace."""
        self.context = context
        """From behind the headers to the path in requestContext."""
        self.template = template

    def follow(self, metadata: Metadata) -> bool:
        """Make `headers` from the template for a call whose metadata differ from the last one's in known values only.
        Returns False if they differ in more. `metadata` has as many fields as that of the last call.
        """
        template = self.template
        headers = None if template is None else template.fill(metadata)
        if headers is None:
            return False
        self.metadata, self.headers = metadata, headers
        return True

    def template_for(self, metadata: Metadata, headers: dict[str, str]) -> Template | None:
        """Return a template for this metadata and that of the last call, or None if they differ in more than values.

        `headers` are those made of this metadata, in their order. No name repeats in the metadata.
        """
        template = self.template
        if template is not None and template.fits(metadata):
            return template
        earlier = {gap.place for gap in template.gaps} if template is not None else set[int]()
        pairs = zip(metadata, self.metadata, strict=True)
        varying = sorted(earlier | {at for at, (field, last) in enumerate(pairs) if field != last})
        names = [metadata[at][0] for at in varying]
        if (
            len(varying) > _MOST_VARYING
            or names != [self.metadata[at][0] for at in varying]
            or not _NEVER_VARYING.isdisjoint(names)
            or not headers.keys() >= {*names}
        ):
            return None
        return _make_template(metadata, headers, varying)


def _make_template(metadata: Metadata, headers: dict[str, str], varying: list[int]) -> Template:
    places = {metadata[at][0]: at for at in varying}
    pieces = [b""]
    for name, value in headers.items():
        pieces[-1] += b"%b%b:" % (b"," if len(pieces) > 1 or pieces[0] else b"", _encode(name))
        if name in places:
            pieces.append(b"")
        else:
            pieces[-1] += _encode(value)
    gaps = [
        _Gap(places[name], name, piece)
        for name, piece in zip([name for name in headers if name in places], pieces[1:], strict=True)
    ]
    steady = [at for at in range(len(metadata)) if at not in varying]
    pick = picker(steady)
    return Template(pick, pick(metadata), pieces[0], tuple(gaps))
