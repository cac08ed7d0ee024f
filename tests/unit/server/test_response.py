"""What leaves: header lists, and trailers cut down to what the client takes."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.rpc.events import OK_TRAILERS, Trailers
from bridge.rpc.metadata import decode_binary, size_of
from bridge.rpc.status import OK, Status, StatusCode, decode_message
from bridge.server.response import head_fields, shorten, trailer_fields

_TEXT = st.text(st.just(" ") | st.characters(exclude_categories=["Cs"]), max_size=80)
_NAMES = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
_VALUES = st.from_regex(r"[ -~]{0,40}", fullmatch=True)
_TRAILERS = st.builds(
    Trailers,
    st.builds(Status, st.sampled_from(StatusCode), _TEXT, st.binary(max_size=60)),
    st.lists(st.tuples(_NAMES, _VALUES), max_size=4).map(tuple),
)
_CODE_SIZE = len("grpc-status") + len("13") + 32


def _size(trailers: Trailers) -> int:
    return size_of(trailer_fields(trailers))


def _failure(message: str = "", details: bytes = b"", *metadata: tuple[str, str]) -> Trailers:
    return Trailers(Status(StatusCode.INTERNAL, message, details), metadata)


def test_headers_give_back_the_content_type_that_was_sent() -> None:
    """After the HTTP status, before the metadata."""
    plain = ((":status", "200"), ("content-type", "application/grpc"))

    assert plain == head_fields("application/grpc", ())
    assert (*plain, ("a", "b")) == head_fields("application/grpc", (("a", "b"),))
    assert (plain[0], ("content-type", "application/grpc+proto"), ("a", "b")) == head_fields(
        "application/grpc+proto", (("a", "b"),)
    )


def test_trailers_say_ok_too() -> None:
    """`grpc-status` is sent even when it is 0."""
    assert (("grpc-status", "0"),) == trailer_fields(OK_TRAILERS)
    assert (("grpc-status", "0"), ("a", "b")) == trailer_fields(Trailers(OK, (("a", "b"),)))


@given(_TRAILERS)
def test_trailers_can_be_read_back(trailers: Trailers) -> None:
    """Code, message, details, metadata in order."""
    fields = trailer_fields(trailers)
    own = dict(fields[: len(fields) - len(trailers.metadata)])

    assert trailers.status.code == int(own["grpc-status"])
    assert trailers.status.message == decode_message(own.get("grpc-message", ""))
    assert trailers.status.details == decode_binary(own.get("grpc-status-details-bin", ""))
    assert trailers.metadata == fields[len(own) :]


@given(_TRAILERS, st.integers(min_value=-10, max_value=600))
def test_shortened_trailers_fit_or_are_the_bare_code(trailers: Trailers, room: int) -> None:
    """Nothing is added; the code is never lost; details stay whole or go."""
    short = shorten(trailers, room=room)

    assert trailers.status.code is short.status.code
    assert _size(short) <= room or short == Trailers(Status(trailers.status.code))
    assert short.status.details in (trailers.status.details, b"")
    assert set(short.metadata) <= set(trailers.metadata)
    kept = short.status.message.removesuffix(" [cut]")
    assert trailers.status.message.startswith(kept)


@given(_TRAILERS)
def test_trailers_that_fit_are_left_alone(trailers: Trailers) -> None:
    """Exactly enough is enough."""
    assert trailers == shorten(trailers, room=_size(trailers))


@given(_TRAILERS, st.integers(min_value=0, max_value=200))
def test_no_more_is_cut_than_must_be(trailers: Trailers, missing: int) -> None:
    """If the rest of the trailers fits, only the message is shorter, by less than the mark and one character."""
    room = _size(trailers) - missing
    short = shorten(trailers, room=room)
    if short.status.message and short.status.message != trailers.status.message:
        assert room - _size(short) < len("%F0%9F%98%80")


def test_message_goes_first() -> None:
    """Marked as cut; details and metadata stay."""
    long = _failure("m" * 500, b"details", ("x", "y"))
    short = shorten(long, room=_size(long) - 100)

    assert "m" * (500 - 100 - len(" [cut]")) + " [cut]" == short.status.message
    assert (b"details", (("x", "y"),)) == (short.status.details, short.metadata)


def test_spaces_at_the_ends_are_counted_as_they_travel() -> None:
    """Three bytes each (RFC 9113 8.2.1); the others are one."""
    room = _CODE_SIZE + len("grpc-message") + 32 + 20

    assert _failure("  a b c d") == shorten(_failure("  a b c d"), room=room)
    assert "  a b c d  [cut]" == shorten(_failure("  a b c d e f g h i"), room=room).status.message
    assert "a b" + 3 * " " + " [cut]" == shorten(_failure("a b" + 50 * " "), room=room).status.message


def test_message_is_cut_at_a_character() -> None:
    """An emoji is twelve bytes on the wire; it is there whole or not at all."""
    short = shorten(_failure("😀" * 20), room=_CODE_SIZE + len("grpc-message") + 32 + 50)

    assert "😀" * 3 + " [cut]" == short.status.message


def test_details_go_whole_and_make_room_for_the_message() -> None:
    """Half a protobuf message is none."""
    short = shorten(_failure("what happened", b"d" * 500, ("x", "y")), room=300)

    assert _failure("what happened", b"", ("x", "y")) == short


def test_metadata_that_does_not_fit_goes_last() -> None:
    """One huge value costs neither the message nor its small neighbours."""
    trailers = _failure("what happened", b"", ("x", "1"), ("huge", "h" * 500), ("z", "3"))

    assert _failure("what happened", b"", ("x", "1"), ("z", "3")) == shorten(trailers, room=300)


def test_megabytes_of_trailers_are_cut_in_linear_time() -> None:
    """A function that runs wild does not stop its neighbours."""
    many = tuple((f"name-{number}", "x") for number in range(20_000))
    trailers = Trailers(Status(StatusCode.INTERNAL, "ü" * 1_000_000, bytes(1_000_000)), many)
    short = shorten(trailers, room=8192)

    assert _size(short) <= 8192
    assert 0 < len(short.metadata) < 250
