"""What AWS's front doors take for base64, checked against encoders of several kinds."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.aws.events.base64_body import decode_base64


@given(
    st.binary(max_size=300),
    st.integers(1, 80),
    st.sampled_from(["\n", "\r\n", " ", "\n\t"]),
    st.booleans(),
    st.booleans(),
)
def test_every_encoders_text_is_undone(data: bytes, width: int, glue: str, is_url_safe: bool, is_padded: bool) -> None:
    encode = base64.urlsafe_b64encode if is_url_safe else base64.b64encode
    text = encode(data).decode()
    text = text if is_padded else text.rstrip("=")
    lines = [text[at : at + width] for at in range(0, len(text), width)]

    assert data == decode_base64(glue.join(lines) + glue)


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "AAAAA",
        "AA=",
        "AA===",
        "AAA==",
        "=",
        "====",
        "AA=A",
        "QQ==QQ==",
        "AA.A",
        "AAé",
        "AA\0A",
        "AA%3D%3D",
        "{}",
        "AAA!",
    ],
)
def test_what_no_encoder_writes_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_base64(text)
