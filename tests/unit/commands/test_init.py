"""The command `init`: a configuration that can be served, with comments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.cli import main
from bridge.config.load import load

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:greeter"
PROTO = """
syntax = "proto3";
package shop.v1;
import "google/longrunning/operations.proto";
service Cart { rpc Add(Item) returns (Item); }
service Stock { rpc Count(Item) returns (Item); }
message Item {}
"""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "BRIDGE_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def targets_of(path: str = "bridge.yaml") -> dict[str, str]:
    """What `check` and `serve` read."""
    services = load(Path(path), environ={}).services
    return {key: ", ".join(str(leg.target) for leg in service.legs) for key, service in services.items()}


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ([], {"*": ""}),
        ([ARN], {"*": ARN}),
        ([f"{ARN}:$LATEST"], {"*": f"{ARN}:$LATEST"}),
        (["https://abc.lambda-url.eu-west-1.on.aws"], {"*": "https://abc.lambda-url.eu-west-1.on.aws"}),
        ([f"a.B={ARN}", "c.*=grpc://host:50051"], {"a.B": ARN, "c.*": "grpc://host:50051"}),
        ([f"a.B/C={ARN}"], {"a.B/C": ARN}),
        (["protos"], {"shop.v1.Cart": "", "shop.v1.Stock": ""}),
        (["protos", ARN], {"shop.v1.Cart": ARN, "shop.v1.Stock": ARN}),
        (
            ["protos", ARN, "shop.v1.Stock=http://127.0.0.1:8080", f"other.S={ARN}:live"],
            {"shop.v1.Cart": ARN, "shop.v1.Stock": "http://127.0.0.1:8080", "other.S": f"{ARN}:live"},
        ),
    ],
)
def test_the_file_says_what_was_given(words: list[str], targets: dict[str, str]) -> None:
    """And can be served at once."""
    Path("protos/shop").mkdir(parents=True)
    Path("protos/shop/cart.proto").write_text(PROTO)

    assert 0 == main(["init", *words])
    assert targets == targets_of()
    assert 0 == main(["check"])


def test_descriptors_are_found_from_the_file(tmp_path: Path) -> None:
    """Paths in a configuration are relative to it."""
    Path("protos").mkdir()
    Path("protos/a.proto").write_text(PROTO)
    Path("deploy").mkdir()

    assert 0 == main(["init", "protos", ARN, "-o", "deploy/it.yaml"])
    (cart, _) = load(tmp_path / "deploy/it.yaml", environ={}).services.values()
    assert '"../protos"' in Path("deploy/it.yaml").read_text()
    (leg,) = cart.legs
    assert leg.descriptors is not None


def test_a_dollar_sign_in_a_folders_name_is_kept(tmp_path: Path) -> None:
    """A configuration would take it for a variable."""
    Path("${HOME}").mkdir()
    Path("${HOME}/a.proto").write_text(PROTO)

    assert 0 == main(["init", "${HOME}", ARN])
    (cart, _) = load(tmp_path / "bridge.yaml", environ={}).services.values()
    assert [tmp_path / "${HOME}"] == [leg.descriptors.path for leg in cart.legs if leg.descriptors is not None]


def test_each_example_in_a_comment_can_be_used() -> None:
    """Without its mark, the file is still a configuration."""
    main(["init", ARN])
    text = Path("bridge.yaml").read_text()
    Path("bridge.yaml").write_text(re.sub(r"^#(?! \S|$)", "", text, flags=re.MULTILINE))

    config = load(Path("bridge.yaml"), environ={})
    assert ("eu-west-1", "work") == (config.aws.region, config.aws.profile)
    assert ["greeter"] == list(config.functions)


def test_no_file_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a file nor what a link points to."""
    Path("bridge.yaml").write_text("mine")
    Path("link.yaml").symlink_to("elsewhere.yaml")

    assert 1 == main(["init", ARN])
    assert "bridge.yaml exists and was left as it is; -o names another file" in capsys.readouterr().err
    assert 1 == main(["init", ARN, "-o", "link.yaml"])
    assert ("mine", False) == (Path("bridge.yaml").read_text(), Path("elsewhere.yaml").exists())


def test_it_may_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["init", ARN, "-o", "-"])
    Path("printed.yaml").write_text(capsys.readouterr().out)

    assert {"*": ARN} == targets_of("printed.yaml")
    assert not Path("bridge.yaml").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([ARN, f"{ARN}2"], f"which service does {ARN}2 serve? Write SERVICE=TARGET"),
        ([ARN, f"a.B={ARN}2"], f"which service does {ARN} serve? Write SERVICE=TARGET"),
        (["greeter"], "is it the name of a function? Then function:NAME"),
        (["ftp://host"], "expected a target"),
        (["local:greeter"], "greeter"),
        (["empty"], "empty holds no .proto file"),
        (["messages"], "no .proto file in messages declares a service"),
        (["broken"], "broken does not compile"),
    ],
)
def test_what_cannot_be_understood_is_told(capsys: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    """Nothing is written."""
    for name, content in (("empty", None), ("messages", "message M {}"), ("broken", "message {}")):
        Path(name).mkdir()
        if content is not None:
            Path(name, "a.proto").write_text(f'syntax = "proto3";\n{content}\n')

    assert 2 == main(["init", *words])
    told = capsys.readouterr().err
    assert text in told
    assert "bridge.yaml:" not in told, "a line of a file that does not exist"
    assert not Path("bridge.yaml").exists()


@pytest.mark.parametrize(
    ("words", "is_told"), [([], True), (["protos"], True), ([ARN], False), (["protos", ARN], False)]
)
def test_missing_targets_are_the_next_thing_to_do(
    capsys: pytest.CaptureFixture[str], words: list[str], is_told: bool
) -> None:
    Path("protos").mkdir()
    Path("protos/a.proto").write_text(PROTO)

    assert 0 == main(["init", *words])
    assert is_told == ("write a target in place of each null in bridge.yaml" in capsys.readouterr().out)
