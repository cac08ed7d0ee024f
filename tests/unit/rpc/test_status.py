"""The text form of statuses: percent-encoding in both directions, codes, HTTP codes."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rpc.status import (
    CAMEL_CASE_NAMES,
    CODES,
    LONGEST_MESSAGE,
    StatusCode,
    code_of_http_status,
    decode_message,
    encode_message,
    parse_code,
)


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        ("", ""),
        ("not found", "not found"),
        ("100% sure", "100%25 sure"),
        ("line\r\nbreak\x00", "line%0D%0Abreak%00"),
        ("grüß dich", "gr%C3%BC%C3%9F dich"),
        ("😀", "%F0%9F%98%80"),
        ("~ !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}", "~ !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}"),
        ("\x7f", "%7F"),
        (" ", "%20"),
        ("   ", "%20%20%20"),
        ("  both ends ", "%20%20both ends%20"),
        (" 100%", "%20100%25"),
        ("grüß dich ", "gr%C3%BC%C3%9F dich%20"),
        ("\n a \t", "%0A a %09"),
    ],
)
def test_message_is_percent_encoded_utf_8(message: str, wire: str) -> None:
    """All but 0x20-0x24 and 0x26-0x7E is escaped, and spaces at the ends, and comes back."""
    assert wire == encode_message(message)
    assert message == decode_message(wire)


@given(st.text())
def test_any_text_survives_the_wire(message: str) -> None:
    """What is sent holds printable ASCII only; lone surrogates apart, the text comes back."""
    wire = encode_message(message)

    assert wire.isascii()
    assert wire == "" or wire.isprintable()
    assert wire == wire.strip()  # RFC 9113 8.2.1
    if not any("\ud800" <= letter <= "\udfff" for letter in message):
        assert message == decode_message(wire)


@given(st.binary())
def test_any_bytes_survive_decoding_and_encoding(raw: bytes) -> None:
    """Bytes that are no UTF-8 are passed on as they came."""
    wire = "".join(f"%{byte:02X}" for byte in raw)

    assert decode_message(wire) == decode_message(encode_message(decode_message(wire)))


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ("50%", "50%"),
        ("50% off", "50% off"),
        ("%zz and %4", "%zz and %4"),
        ("%e2%82%ac", "€"),
        ("a+b", "a+b"),
    ],
)
def test_broken_escape_stands_for_itself(wire: str, message: str) -> None:
    """A message with a bad escape is neither refused nor dropped."""
    assert message == decode_message(wire)


@given(st.text(alphabet="%0aFz\xff", max_size=40))
def test_escapes_are_read_as_urllib_reads_them(wire: str) -> None:
    assert decode_message(wire).encode("utf-8", "surrogateescape") == unquote_to_bytes(wire.encode("latin-1"))


@pytest.mark.parametrize("part", ["a", "%41", "%", "\xe4"])
def test_a_message_is_read_as_far_as_a_client_takes_it(part: str) -> None:
    """Megabytes of it would hold up other calls."""
    read = decode_message(part * (1 << 20))

    assert read.endswith(" [cut]")
    assert len(read) <= LONGEST_MESSAGE + len(" [cut]")
    assert not decode_message("a" * LONGEST_MESSAGE).endswith("]")


@pytest.mark.parametrize("wire", ["gr\xc3\xbc\xc3\x9f", "grüß \u20ac"])
def test_unescaped_text_is_not_lost(wire: str) -> None:
    """UTF-8 sent raw (Latin-1 in here) and text beyond Latin-1 (from JSON) are both read as text."""
    assert decode_message(wire).startswith("grüß")


@pytest.mark.parametrize("surrogate", [0xD800, 0xDBFF, 0xDC00, 0xDC7F, 0xDD00, 0xDFFF])
def test_lone_surrogate_is_replaced(surrogate: int) -> None:
    """A surrogate that stands for no byte cannot be sent and does not fail the call."""
    assert "a%EF%BF%BDb" == encode_message(f"a{chr(surrogate)}b")


@pytest.mark.parametrize("code", StatusCode)
def test_code_is_read_back(code: StatusCode) -> None:
    """Each code is what its number says."""
    assert code is parse_code(str(int(code)))
    assert code is CODES[code]


@pytest.mark.parametrize("text", ["", "17", "99", "-1", "+1", "1.0", " 1", "abc", "100000000", "٣", "²"])
def test_unreadable_code_is_unknown(text: str) -> None:
    """What is no code of gRPC counts as UNKNOWN."""
    assert StatusCode.UNKNOWN is parse_code(text)


def test_camel_case_names_stand_at_their_number() -> None:
    """The names of grpc-go, which spells one of them its own way."""
    assert "OK" == CAMEL_CASE_NAMES[0]
    assert "Canceled" == CAMEL_CASE_NAMES[StatusCode.CANCELLED]
    assert "DeadlineExceeded" == CAMEL_CASE_NAMES[StatusCode.DEADLINE_EXCEEDED]
    assert len(CODES) == len(CAMEL_CASE_NAMES)


@pytest.mark.parametrize(
    ("http_status", "code"),
    [
        (400, StatusCode.INTERNAL),
        (401, StatusCode.UNAUTHENTICATED),
        (403, StatusCode.PERMISSION_DENIED),
        (404, StatusCode.UNIMPLEMENTED),
        (413, StatusCode.RESOURCE_EXHAUSTED),
        (429, StatusCode.UNAVAILABLE),
        (502, StatusCode.UNAVAILABLE),
        (503, StatusCode.UNAVAILABLE),
        (504, StatusCode.UNAVAILABLE),
        (200, StatusCode.UNKNOWN),
        (302, StatusCode.UNKNOWN),
        (409, StatusCode.UNKNOWN),
        (415, StatusCode.UNKNOWN),
        (431, StatusCode.UNKNOWN),
        (500, StatusCode.UNKNOWN),
    ],
)
def test_http_status_stands_for_a_code(http_status: int, code: StatusCode) -> None:
    """The table of http-grpc-status-mapping.md, with 413 our own and 431 as the conformance suite has it."""
    assert code is code_of_http_status(http_status)
