from __future__ import annotations

from pathlib import Path

import pytest

from bridge.aws.arn import FunctionName
from bridge.config.element import Document, Element, compose
from bridge.config.problems import Refused
from bridge.config.target import GrpcTargetSpec, HttpTargetSpec, LambdaTargetSpec, LocalTarget, TargetKind, target
from bridge.rpc.address import TcpAddress, UnixAddress
from bridge.rpc.url import Origin, Url

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:greeter"


def element(value: str) -> Element:
    return compose(f'key: "{value}"', Document("bridge.yaml", Path("/here"), {})).keys()["key"]


TARGETS: dict[str, TargetKind] = {
    ARN: LambdaTargetSpec(FunctionName("greeter", partition="aws", region="eu-west-1", account="123456789012")),
    f"{ARN}:live": LambdaTargetSpec(
        FunctionName("greeter", "live", partition="aws", region="eu-west-1", account="123456789012")
    ),
    "arn:aws-cn:lambda:cn-north-1:123456789012:function:g:$LATEST": LambdaTargetSpec(
        FunctionName("g", "$LATEST", "cn-north-1", "123456789012", "aws-cn")
    ),
    "function:greeter": LambdaTargetSpec(FunctionName("greeter")),
    "function:greeter:7": LambdaTargetSpec(FunctionName("greeter", "7")),
    "function:arn:live": LambdaTargetSpec(FunctionName("arn", "live")),
    "http://127.0.0.1:8080": HttpTargetSpec(Url(Origin("http", "127.0.0.1", 8080))),
    "https://a.b/prefix": HttpTargetSpec(Url(Origin("https", "a.b", 443), "/prefix")),
    "grpc://a.b:50051": GrpcTargetSpec(TcpAddress("a.b", 50051)),
    "grpcs://[::1]:443": GrpcTargetSpec(TcpAddress("::1", 443), tls=True),
    "unix:/run/a.sock": GrpcTargetSpec(UnixAddress(Path("/run/a.sock"))),
    "local:echo": LocalTarget("echo"),
}


@pytest.mark.parametrize("text", TARGETS)
def test_targets(text: str) -> None:
    assert TARGETS[text] == target(element(text))


@pytest.mark.parametrize("text", TARGETS)
def test_a_target_is_printed_as_it_is_written(text: str) -> None:
    assert text == str(TARGETS[text])


def test_a_socket_may_be_relative_to_the_file() -> None:
    assert GrpcTargetSpec(UnixAddress(Path("/here/a.sock"))) == target(element("unix:a.sock"))


@pytest.mark.parametrize(
    ("has", "text"),
    [
        ("is it the name of a function? Then function:NAME", "greeter"),
        ('did you mean "grpc"?', "grcp://a.b:1"),
        ("expected the ARN of a function", "arn:aws:lambda:eu-west-1:123456789012:greeter"),
        ("expected the ARN of a function", "arn:aws:iam::123456789012:role/x"),
        ("expected the ARN of a function", "arn:aws:lambda:eu-west-1:12345:function:greeter"),
        (
            "expected the ARN of a function",
            "arn:mine:lambda:eu-west-1:123456789012:function:greeter",
        ),
        ("expected function:NAME[:QUALIFIER]", "function:"),
        ("expected function:NAME[:QUALIFIER]", "function:a b"),
        ("expected function:NAME[:QUALIFIER]", f"function:{ARN}"),
        ("expected the ARN of a function", ARN.replace("1234", "\u0661234")),
        ("expected HOST:PORT, the port from 1 to 65535", "grpc://a.b"),
        ("expected HOST:PORT, the port from 1 to 65535", "grpc://a.b:0"),
        ("expected HOST:PORT, the port from 1 to 65535", "grpcs://a.b:443/path"),
        ("a URL here holds no credentials", "https://me:secret@a.b"),
        ("expected local:NAME", "local:a:b"),
        ("expected local:NAME", "local:"),
        ("expected a path after unix:", "unix:"),
    ],
)
def test_what_is_no_target_is_refused(has: str, text: str) -> None:
    with pytest.raises(Refused) as refused:
        target(element(text))

    assert has in str(refused.value)
    assert "secret" not in str(refused.value)
