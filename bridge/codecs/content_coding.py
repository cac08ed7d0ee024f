"""Content codings of a reply's body (RFC 9110 8.4), undone as the body comes: gzip and deflate, also several on top of
each other.

In go the header fields of a reply and its body in any parts; out come pieces of bounded size. It knows neither the
reply, nor who asked for identity, nor the total limit.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator

from bridge.codecs.error_excerpts import ERROR_MARK, broken_off
from bridge.rpc.errors import BadReply, FunctionFailed, ReplyTooLarge, RpcError
from bridge.rpc.metadata import Metadata

PIECE = 16 << 10
"""The most bytes given out at once, and taken in at once."""

MAX_CODINGS = 3
"""Most codings on top of each other. Each multiplies the work that a small body can cause."""

MAX_BETWEEN = 64 << 20
"""Bytes that one of several codings may give to the next. Without a bound a few KiB could mean hours of work."""

_NAMES = ("content-encoding", "x-amzn-remapped-content-encoding")
"""The field, and what API Gateway makes of a function's own."""
_ALIASES = {"x-gzip": "gzip"}  # RFC 9110 8.4.1.3
_KEPT = 4096
"""Bytes of the body's end that are searched for a runtime's report of a failure."""


def content_codings(headers: Metadata) -> tuple[str, ...]:
    """Return the codings in the order in which they were applied, without identity. `headers`: names in lower case."""
    for name in _NAMES:
        listed = ",".join([value for key, value in headers if key == name])
        if listed:
            names = [part.strip(" \t").lower() for part in listed.split(",")]
            return tuple([_ALIASES.get(each, each) for each in names if each not in ("", "identity")])
    return ()


class ContentDecoder:
    """Undoes the codings of one body: `feed` the body in any parts, then `finish`. An empty body needs no decoding."""

    def __init__(self, codings: tuple[str, ...], *, max_between: int = MAX_BETWEEN) -> None:
        self._codings = codings
        self._stages: list[_Stage] = []
        self._between = 0
        self._max_between = max_between
        self._end = b""
        """The last bytes of the body as they came."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the pieces that these bytes give. An empty one says that some work was done: the caller may let others
        get through.

        Raises BadReply, ReplyTooLarge; FunctionFailed if a runtime's report stands where data should.
        """
        if not self._stages:
            self._stages = self._begun()
        self._end = (self._end + data)[-_KEPT:]
        try:
            yield from self._through(self._stages, data)
        except BadReply as error:
            raise self._blame(error) from error.__cause__

    def finish(self) -> None:
        """End the body. Raises as `feed` does if a coding's data is incomplete."""
        for stage in self._stages:
            if not stage.is_whole:
                raise self._blame(
                    BadReply(f"the function's reply is cut off within its content-encoding {stage.coding}")
                )

    def _begun(self) -> list[_Stage]:
        unknown = [coding for coding in self._codings if coding not in _STAGES]
        if unknown:
            shown = unknown[0][:40] if unknown[0].isprintable() else "?"
            raise BadReply(
                f"the function answered in content-encoding {shown}, which the bridge cannot decode:"
                " it asks for identity, and decodes gzip and deflate"
            )
        if len(self._codings) > MAX_CODINGS:
            raise BadReply(
                f"the function answered in {len(self._codings)} content-encodings on top of each other, "
                f"the limit is {MAX_CODINGS}"
            )
        return [_STAGES[coding]() for coding in reversed(self._codings)]

    def _through(self, stages: list[_Stage], data: bytes) -> Iterator[bytes]:
        first, *others = stages
        for at in range(0, len(data), PIECE):
            for piece in first.feed(data[at : at + PIECE]):
                if not others:
                    yield piece
                    continue
                self._between += len(piece)
                if self._between > self._max_between:
                    raise ReplyTooLarge(
                        f"the function's reply is above {self._max_between} bytes between two content-encodings"
                    )
                yield from self._through(others, piece)
            yield b""

    def _blame(self, error: BadReply) -> RpcError:
        """If bytes do not decode, a runtime's report explains them better than the decoder."""
        at = self._end.rfind(ERROR_MARK)
        told = broken_off(self._end[at:]) if at >= 0 else None
        return error if told is None else FunctionFailed(told)


class _Gzip:
    """RFC 1952: one member after the other."""

    coding = "gzip"

    def __init__(self) -> None:
        self._inflater = self._new()
        self._has_begun = False

    @staticmethod
    def _new() -> zlib._Decompress:
        return zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def is_whole(self) -> bool:
        return not self._has_begun

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            self._has_begun = True
            data = yield from _inflated(self._inflater, data, self.coding)
            if self._inflater.eof:
                self._inflater = self._new()
                self._has_begun = False


class _Deflate:
    """RFC 9110 8.4.1.2: the zlib format (RFC 1950); and the bare deflate data (RFC 1951) that some send under this
    name.
    """

    coding = "deflate"

    def __init__(self) -> None:
        self._inflater: zlib._Decompress | None = None
        self._held = b""

    @property
    def is_whole(self) -> bool:
        if self._inflater is None:
            return not self._held
        return self._inflater.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflater is None:
            self._held = data = self._held + data
            if len(data) < 2:
                return
            bits = zlib.MAX_WBITS if _is_zlib(data) else -zlib.MAX_WBITS
            self._inflater, self._held = zlib.decompressobj(bits), b""
        if data:
            rest = yield from _inflated(self._inflater, data, self.coding)
            if rest:
                raise BadReply("the function's reply has bytes behind the end of its content-encoding deflate")


def _is_zlib(data: bytes) -> bool:
    """RFC 1950 2.2: the method is deflate, and the two bytes are a multiple of 31."""
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _inflated(inflater: zlib._Decompress, data: bytes, coding: str) -> Generator[bytes, None, bytes]:
    """Yield what the data gives, and return the rest of it that stands behind the end."""
    while True:
        try:
            plain = inflater.decompress(data, PIECE)
        except zlib.error as error:
            raise BadReply(f"the function's reply does not decode as content-encoding {coding}") from error
        if plain:
            yield plain
        if inflater.eof:
            return inflater.unused_data
        data = inflater.unconsumed_tail
        if not data and len(plain) < PIECE:
            return b""


_Stage = _Gzip | _Deflate
_STAGES: dict[str, type[_Stage]] = {"gzip": _Gzip, "deflate": _Deflate}
