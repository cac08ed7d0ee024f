"""What `iam` prints: policies that AWS and Terraform can read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.cli import main
from bridge.commands.hcl import Expression, block

LINTERS = Path(__file__).parents[3] / ".cache/tools/lint/bin"
ROLE = "arn:aws:iam::210987654321:role/teams/orders"
SERVICES = {
    "a.A": "arn:aws:lambda:eu-west-1:123456789012:function:a:live",
    "a.B": {"target": "function:b:$LATEST", "role_arn": {"arn": ROLE, "external_id": "id-1"}},
    "a.C": {"target": "https://abc.lambda-url.eu-west-1.on.aws", "auth": "iam"},
    "a.D": {"target": "https://q1.execute-api.eu-west-1.amazonaws.com/prod", "auth": "iam"},
    "a.E": {"target": "https://x.lambda-web.eu-west-1.on.aws", "auth": "iam"},
}
OIDC = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC"


class Printer:
    """Runs `iam` with a configuration."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._path = folder / "bridge.yaml"
        self._capsys = capsys

    def run(self, *arguments: str, services: object = SERVICES, code: int = 0) -> tuple[str, str]:
        """Standard output and standard error."""
        self._path.write_text(yaml.safe_dump({"services": services}))
        assert code == main(["iam", "-c", str(self._path), *arguments])
        printed = self._capsys.readouterr()
        return printed.out, printed.err

    def json(self, *arguments: str, services: object = SERVICES) -> Any:
        return json.loads(self.run(*arguments, services=services)[0])


@pytest.fixture
def iam(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printer:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    return Printer(tmp_path, capsys)


def test_json_has_one_object_for_each_identity(iam: Printer) -> None:
    """Its policy is a whole document, so that `jq .bridge.policy` is what the AWS CLI takes."""
    printed = iam.json("--account", "111111111111")

    assert ["bridge", ROLE] == list(printed)
    assert "2012-10-17" == printed["bridge"]["policy"]["Version"]
    [statement] = printed[ROLE]["policy"]["Statement"]
    assert {
        "Sid": "InvokeFunctions",
        "Effect": "Allow",
        "Action": "lambda:InvokeFunction",
        "Resource": ["arn:aws:lambda:eu-west-1:111111111111:function:b:$LATEST"],
    } == statement


def test_what_is_unknown_is_any_in_json_and_said(iam: Printer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    out, err = iam.run(services={"a.B": "function:b"})

    assert ["arn:aws:lambda:*:*:function:b"] == json.loads(out)["bridge"]["policy"]["Statement"][0]["Resource"]
    assert "--account ID" in err
    assert "--region NAME" in err


def test_nothing_is_said_where_all_is_known(iam: Printer) -> None:
    out, err = iam.run(services={"a.A": SERVICES["a.A"]})

    assert "" == err
    assert "*" not in out


def test_the_role_of_a_url_is_narrowed(iam: Printer) -> None:
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:orders"
    out, err = iam.run("--function", f"abc.lambda-url.eu-west-1.on.aws={arn}", services={"a.C": SERVICES["a.C"]})

    assert [[arn], [arn]] == [one["Resource"] for one in json.loads(out)["bridge"]["policy"]["Statement"]]
    assert "" == err


def test_an_assumed_role_trusts_its_account_or_a_principal(iam: Printer) -> None:
    [wide] = iam.json()[ROLE]["trust_policy"]["Statement"]
    principal = "arn:aws:iam::123456789012:role/bridge"
    [narrow] = iam.json("--principal", principal)[ROLE]["trust_policy"]["Statement"]

    assert {"AWS": "arn:aws:iam::210987654321:root"} == wide["Principal"]
    assert {"AWS": principal} == narrow["Principal"]
    assert {"StringEquals": {"sts:ExternalId": ["id-1"]}} == narrow["Condition"]


@pytest.mark.parametrize(
    ("arguments", "principal", "action"),
    [
        (["ec2"], {"Service": "ec2.amazonaws.com"}, "sts:AssumeRole"),
        (["ecs"], {"Service": "ecs-tasks.amazonaws.com"}, "sts:AssumeRole"),
        (["pod-identity"], {"Service": "pods.eks.amazonaws.com"}, ["sts:AssumeRole", "sts:TagSession"]),
        (
            ["irsa", "--oidc-provider", OIDC, "--service-account", "apps:bridge"],
            {"Federated": OIDC},
            "sts:AssumeRoleWithWebIdentity",
        ),
    ],
)
def test_the_bridge_is_trusted_where_it_runs(
    iam: Printer, arguments: list[str], principal: object, action: object
) -> None:
    [statement] = iam.json("--runs-on", *arguments)["bridge"]["trust_policy"]["Statement"]

    assert (principal, action) == (statement["Principal"], statement["Action"])


def test_a_service_account_alone_is_trusted(iam: Printer) -> None:
    """Other pods of the cluster do not get the role."""
    irsa = iam.json("--runs-on", "irsa", "--oidc-provider", OIDC, "--service-account", "apps:bridge")
    pod = iam.json("--runs-on", "pod-identity", "--service-account", "apps:bridge")

    issuer = "oidc.eks.eu-west-1.amazonaws.com/id/ABC"
    assert {
        "StringEquals": {f"{issuer}:sub": "system:serviceaccount:apps:bridge", f"{issuer}:aud": "sts.amazonaws.com"}
    } == irsa["bridge"]["trust_policy"]["Statement"][0]["Condition"]
    tags = pod["bridge"]["trust_policy"]["Statement"][0]["Condition"]["StringEquals"]
    assert ["apps", "bridge"] == list(tags.values())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--runs-on", "irsa"], "--service-account"),
        (["--runs-on", "irsa", "--service-account", "a:b"], "--oidc-provider"),
        (["--runs-on", "irsa", "--service-account", "b", "--oidc-provider", OIDC], "NAMESPACE:NAME"),
        (["--function", "host"], "HOST=ARN"),
    ],
)
def test_a_wrong_option_is_said(iam: Printer, arguments: list[str], named: str) -> None:
    out, err = iam.run(*arguments, code=2)

    assert "" == out
    assert named in err


def test_an_unknown_action_fails_after_the_rest_is_printed(iam: Printer) -> None:
    auth = {"iam": {"service": "vpc-lattice-svcs", "region": "eu-west-1"}}
    services = {"a.A": "function:a", "a.B": {"target": "https://api.example.com", "auth": auth}}
    out, err = iam.run(services=services, code=1)

    assert "function:a" in out
    assert "vpc-lattice-svcs" in err


def test_a_policy_above_the_quota_is_said(iam: Printer) -> None:
    services = {f"a.S{number}": f"function:{'f' * 50}{number}" for number in range(200)}
    _, err = iam.run(services=services)

    assert "10240" in err


# -- Terraform ---------------------------------------------------------------------------------------------------------

SETTINGS = [
    pytest.param([], id="a policy"),
    pytest.param(["--runs-on", "ecs"], id="a role"),
    pytest.param(["--principal", "arn:aws:iam::123456789012:role/bridge"], id="a principal"),
]


@pytest.mark.parametrize("arguments", SETTINGS)
@pytest.mark.skipif(not (LINTERS / "python").exists(), reason="python-hcl2 is not there: bash .ci/tools installs it")
def test_terraform_parses(iam: Printer, tmp_path: Path, arguments: list[str]) -> None:
    """And holds the same resources as the JSON."""
    text, _ = iam.run("-o", "terraform", *arguments)
    (tmp_path / "iam.tf").write_text(text)
    reader = "import hcl2, json, sys; print(json.dumps(hcl2.load(sys.stdin)))"
    done = subprocess.run([LINTERS / "python", "-c", reader], input=text, capture_output=True, text=True, check=True)
    kinds = {json.dumps(next(iter(one))).strip('\\"') for one in json.loads(done.stdout)["resource"]}

    assert ("aws_iam_role" in kinds, "aws_iam_role_policy" in kinds) == (True, True)
    assert ("aws_iam_policy" in kinds) is ("--runs-on" not in arguments)
    assert "${data.aws_caller_identity.current.account_id}" in text
    for part in ("<account>", "<region>", "<partition>", "<bridge>"):
        assert part not in text


@pytest.mark.parametrize("arguments", SETTINGS)
@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not there")
def test_terraform_is_laid_out(iam: Printer, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "iam.tf").write_text(iam.run("-o", "terraform", *arguments)[0])
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", "iam.tf"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CHECKPOINT_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stdout)


def test_terraform_asks_for_the_account_and_trusts_the_role_it_makes(iam: Printer) -> None:
    text, _ = iam.run("-o", "terraform", "--runs-on", "ec2")

    assert 'data "aws_caller_identity" "current" {}' in text
    assert '"${aws_iam_role.bridge.arn}"' in text
    assert 'path = "/teams/"' in text


def test_texts_are_never_expressions() -> None:
    """Terraform's templates in a text would run: they are escaped. A word that is no identifier is quoted."""
    text = block(("resource", "a", "b"), {"one": "${x} %{y}", "a:b": {"k": ["1", "2"]}, "e": Expression("a.b")})

    assert text == (
        'resource "a" "b" {\n  one = "$${x} %%{y}"\n  "a:b" = {\n    k = [\n      "1",\n      "2",\n    ]\n  }\n'
        "  e = a.b\n}\n"
    )
