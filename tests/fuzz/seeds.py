"""The first inputs of each target's corpus: one of each form that the reader knows. `python -m tests.fuzz.seeds` writes
them anew.
"""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from tests.support.event_stream import CHUNK, invoke_complete
from tests.support.frames import REQUEST, RESPONSE, TRAILERS, FrameFactory, raw

HERE = Path(__file__).parent
CUTS = bytes((3, 0, 15, 7, 1, 9, 5, 11))
"""In front of what is fed in pieces."""


def seeds() -> dict[str, list[bytes]]:
    frames = FrameFactory()
    block = frames.block(REQUEST)
    message = b"\0\0\0\0\x05hello"
    ok = b"\x80\0\0\0\x10grpc-status:0\r\n\x0a"[:-1]
    conversation = raw(1, 4, 1, block) + raw(0, 1, 1, message) + raw(8, 0, 1, b"\0\0\1\0") + raw(3, 0, 1, b"\0\0\0\x08")
    settings = raw(4, 0, 0, b"\0\4\0\0\1\0") + raw(6, 0, 0, bytes(8)) + raw(4, 1, 0, b"")
    answers = FrameFactory()
    answer = (
        answers.headers(1, RESPONSE)
        + raw(0, 0, 1, message)
        + answers.headers(1, TRAILERS, flags=("END_HEADERS", "END_STREAM"))
    )
    reply = {
        "statusCode": 200,
        "headers": {"content-type": "application/grpc-web+proto"},
        "isBase64Encoded": True,
    }
    whole = json.dumps(reply | {"body": b64encode(message + ok).decode()}).encode()
    multi = json.dumps(reply | {"multiValueHeaders": {"a": ["1", "2"]}, "cookies": ["x=y"], "body": ""}).encode()
    connect = b'\x2d/library.v1.Library/GetBook\n\n\x02{"name":"a"}'
    return {
        "engine": [
            b"\1" + CUTS + conversation,
            b"\1" + CUTS + settings,
            b"\0" + CUTS + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ],
        "answering-engine": [CUTS + conversation, CUTS + settings + conversation],
        "client-engine": [
            b"\1" + CUTS + answer,
            b"\1" + CUTS + settings + raw(8, 0, 1, b"\0\0\1\0"),
            b"\0" + CUTS + settings,
            b"\1" + CUTS + raw(7, 0, 0, bytes(8)) + answer,
        ],
        "native-replies": [
            CUTS + answer,
            CUTS + raw(1, 5, 1, answers.block([*RESPONSE, ("grpc-status", "5")])),
            CUTS + raw(3, 0, 1, b"\0\0\0\7"),
        ],
        "header-blocks": [bytes((len(block) & 0xFF,)) + block + block, b"\3\x20\x82\x86\x3f\xe1\x1f", b"\2\x0f\x2f"],
        "envelopes": [CUTS + message * 3, CUTS + b"\1" + message[1:], CUTS + message[:7]],
        "trailers": [
            b"\x40" + CUTS + message + ok,
            b"\x41" + CUTS + b64encode(message + ok),
            b"\xc0" + b"5\nno\n" + CUTS,
        ],
        "frames-without-trailers": [b"0\n" + CUTS + message, b"\n" + CUTS + message * 2],
        "event-stream": [
            b"\0" + CHUNK + invoke_complete(),
            b"\1event\nPayloadChunk\n\nhello",
            b"\1event\nInvokeComplete\n\n{}",
        ],
        "replies": [
            b"\0" + whole,
            b"\0" + multi,
            b"\1" + b'{"status_code":200,"headers":{"a":"b"},"body":"AA==","is_base64_encoded":true}',
        ],
        "streamed-replies": [
            CUTS + json.dumps({"statusCode": 200, "headers": {"a": "b"}}).encode() + bytes(8) + message,
            CUTS + whole,
        ],
        "http-responses": [
            CUTS + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            CUTS + b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\n\r\n",
            CUTS + b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 500 No\r\n\r\nbye",
        ],
        "json-of-messages": [b"\x0a\x01x\x10\x05\x18\x01", b"\x42\x02\x0a\x00", b"\x2a\x02\x08\x05"],
        "messages-of-json": [
            b'{"id":"x","totalCents":"5","state":"OPEN"}',
            b'{"parts":[{}],"at":"2026-01-01T00:00:00Z"}',
            b"null",
            b"\1\xa3\0\x0b\4\x0d\x08\x14",
        ],
        "rest": [b"\x08/v1/shelves/1/books/2\nview=FULL&a.b=c\n\0", connect, b"\x00/v1/books/x:archive\n\n\0{}"],
        "events": [b"\xa0\1", b"\xa2\x0c\x0b\x0d\1\2", b"\xa1\3\xa1\4\xa1\5\x18\3"],
        "configuration": [
            b"services: {a.B: arn:aws:lambda:eu-west-1:123456789012:function:f}",
            b"listen: [{address: 127.0.0.1:1, tls: {cert: a, key: b}}]\ndefaults: {timeout: 5s}\n",
            b"a: &x [1]\nb: *x\nservices: {'*': 'http://${HOME}/x'}",
        ],
    }


def main() -> None:
    for name, inputs in seeds().items():
        folder = HERE / "corpus" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(inputs, 1):
            (folder / f"seed-{number}").write_bytes(content)


if __name__ == "__main__":
    main()
