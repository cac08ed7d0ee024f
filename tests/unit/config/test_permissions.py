"""Which permissions each kind of target needs, and for which identity."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bridge.aws.arn import FunctionName
from bridge.config.load import load
from bridge.config.permissions import AccountPlace, Identity, Statement, identities, unnamed
from bridge.config.schema import Config

PLACE = AccountPlace(region="eu-west-1", account="123456789012")
ROLE = "arn:aws:iam::210987654321:role/orders"
BY_URL = {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}
OF_URL = {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def configured(folder: Path, services: object, **keys: object) -> Config:
    path = folder / "bridge.yaml"
    path.write_text(yaml.safe_dump({"services": services, **keys}))
    return load(path, environ={})


def own(folder: Path, services: object, place: AccountPlace = PLACE, **keys: object) -> tuple[Statement, ...]:
    """The statements of the bridge's own policy."""
    return identities(configured(folder, services, **keys), place)[0].statements


@pytest.mark.parametrize("mode", ["buffered", "response_stream"])
@pytest.mark.parametrize(
    ("target", "resource"),
    [
        ("function:orders", "arn:aws:lambda:eu-west-1:123456789012:function:orders"),
        ("function:orders:live", "arn:aws:lambda:eu-west-1:123456789012:function:orders:live"),
        ("function:orders:$LATEST", "arn:aws:lambda:eu-west-1:123456789012:function:orders:$LATEST"),
        (
            "arn:aws-us-gov:lambda:us-gov-west-1:210987654321:function:orders:7",
            "arn:aws-us-gov:lambda:us-gov-west-1:210987654321:function:orders:7",
        ),
        (
            "arn:aws-cn:lambda:cn-north-1:210987654321:function:orders",
            "arn:aws-cn:lambda:cn-north-1:210987654321:function:orders",
        ),
    ],
)
def test_a_function_needs_invoke_for_its_arn_and_qualifier(folder: Path, target: str, resource: str, mode: str) -> None:
    """Streamed replies need the same action (Lambda's API model, InvokeWithResponseStream)."""
    found = own(folder, {"a.B": {"target": target, "invoke_mode": mode}})

    assert (Statement("InvokeFunctions", "lambda:InvokeFunction", (resource,)),) == found


def test_a_region_of_the_file_goes_before_that_of_the_environment(folder: Path) -> None:
    [statement] = own(folder, {"a.B": "function:f"}, aws={"region": "cn-north-1"})

    assert ("arn:aws-cn:lambda:cn-north-1:123456789012:function:f",) == statement.resources


def test_functions_share_one_statement(folder: Path) -> None:
    """Each resource once, also the targets of a split and entries with the same function."""
    services = {
        "a.A": {"split": {"function:new": 1, "function:old": 9}},
        "a.B": "function:old",
    }
    [statement] = own(folder, services)

    assert ["new", "old"] == [arn.rpartition(":")[2] for arn in statement.resources]


def test_a_function_url_needs_both_actions_with_their_conditions(folder: Path) -> None:
    """Its region is that of the URL. Its host does not tell the function."""
    found = own(folder, {"a.B": {"target": "https://abc.lambda-url.us-east-2.on.aws", "auth": "iam"}})

    arn = ("arn:aws:lambda:us-east-2:123456789012:function:*",)
    assert (
        Statement("InvokeFunctionUrls", "lambda:InvokeFunctionUrl", arn, OF_URL),
        Statement("InvokeFunctionsByUrl", "lambda:InvokeFunction", arn, BY_URL),
    ) == found


def test_the_function_of_a_url_can_be_named(folder: Path) -> None:
    """By host, in any case of its letters."""
    arn = "arn:aws:lambda:us-east-2:210987654321:function:orders:live"
    place = AccountPlace(owners={"abc.lambda-url.us-east-2.on.aws": FunctionName.from_arn(arn)})
    found = own(folder, {"a.B": {"target": "https://ABC.lambda-url.us-east-2.on.aws", "auth": "iam"}}, place)

    assert [(arn,), (arn,)] == [statement.resources for statement in found]


def test_an_own_domain_signed_for_lambda_is_a_function_url(folder: Path) -> None:
    services = {
        "a.B": {"target": "https://api.example.com", "auth": {"iam": {"service": "lambda", "region": "eu-west-3"}}}
    }
    found = own(folder, services)

    assert ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"] == [statement.action for statement in found]


def test_a_web_function_needs_its_own_action(folder: Path) -> None:
    """The ARN's form is that of AWS's managed policy AWSLambdaInvokeWebFunctionEndpointAccess."""
    [statement] = own(folder, {"a.B": {"target": "https://x.lambda-web.eu-west-1.on.aws", "auth": "iam"}})

    assert "lambda:InvokeWebFunctionEndpoint" == statement.action
    assert ("arn:aws:lambda:eu-west-1:123456789012:web-function/*/endpoint/*",) == statement.resources


@pytest.mark.parametrize(
    ("key", "url", "resource"),
    [
        ("a.B", "https://q1.execute-api.eu-west-1.amazonaws.com/prod", "q1/prod/POST/a.B/*"),
        ("a.B/M", "https://q1.execute-api.eu-west-1.amazonaws.com/prod", "q1/prod/POST/a.B/M"),
        ("a.B", "https://q1.execute-api.eu-west-1.amazonaws.com/prod/v1/x", "q1/prod/POST/v1/x/a.B/*"),
        ("a.*", "https://q1.execute-api.eu-west-1.amazonaws.com", "q1/$default/POST/a.*"),
        ("*", "https://q1.execute-api.eu-west-1.amazonaws.com", "q1/$default/POST/*"),
        ("a.B", "https://q1-vpce-0123.execute-api.eu-west-1.amazonaws.com/prod", "q1/prod/POST/a.B/*"),
    ],
)
def test_an_api_needs_invoke_for_its_stage_and_methods(folder: Path, key: str, url: str, resource: str) -> None:
    [statement] = own(folder, {key: {"target": url, "auth": "iam"}})

    assert "execute-api:Invoke" == statement.action
    assert (f"arn:aws:execute-api:eu-west-1:123456789012:{resource}",) == statement.resources


def test_an_own_domain_tells_neither_api_nor_stage(folder: Path) -> None:
    """Its mappings decide both, and the path."""
    auth = {"iam": {"service": "execute-api", "region": "cn-north-1"}}
    [statement] = own(folder, {"a.B": {"target": "https://api.example.com/v1", "auth": auth}})

    assert ("arn:aws-cn:execute-api:cn-north-1:123456789012:*/*/POST/*a.B/*",) == statement.resources


@pytest.mark.parametrize(
    "target",
    [
        "https://abc.lambda-url.us-east-2.on.aws",
        "grpc://localhost:1",
        {"target": "function:f", "quirks": "rie", "endpoint_url": "http://localhost:8080"},
        None,
    ],
)
def test_what_is_not_signed_needs_nothing(folder: Path, target: object) -> None:
    assert () == own(folder, {"a.B": target}, aws={"region": "eu-west-1"})


def test_local_functions_need_nothing(folder: Path) -> None:
    assert () == own(folder, {"a.B": "local:f"}, functions={"f": {"handler": "app.handler"}})


def test_each_role_has_a_policy_of_its_own(folder: Path) -> None:
    """The bridge then needs only to assume it. Targets that bring a role do not use that of `aws`."""
    services = {"a.A": {"target": "function:a", "role_arn": ROLE}, "a.B": "function:b"}
    other = "arn:aws:iam::210987654321:role/all"
    bridge, first, second = identities(configured(folder, services, aws={"role_arn": other}), PLACE)

    assert Identity((Statement("AssumeRoles", "sts:AssumeRole", (other, ROLE)),)) == bridge
    assert [ROLE, other] == [first.role_arn, second.role_arn]
    assert [["a"], ["b"]] == [
        [arn.rpartition(":")[2] for arn in identity.statements[0].resources] for identity in (first, second)
    ]


def test_a_role_that_nothing_signed_uses_is_not_assumed(folder: Path) -> None:
    [bridge] = identities(configured(folder, {"a.A": "grpc://localhost:1"}, aws={"role_arn": ROLE}), PLACE)

    assert () == bridge.statements


def test_one_role_with_two_external_ids_is_one_identity(folder: Path) -> None:
    """Its trust policy then takes both; and any, if one target brings none."""
    services = {
        "a.A": {"target": "function:a", "role_arn": {"arn": ROLE, "external_id": "two"}},
        "a.B": {"target": "function:b", "role_arn": {"arn": ROLE, "external_id": "one"}},
    }
    [_, role] = identities(configured(folder, services), PLACE)
    services["a.C"] = {"target": "function:c", "role_arn": ROLE}
    [_, mixed] = identities(configured(folder, services), PLACE)

    assert (("one", "two"), ()) == (role.external_ids, mixed.external_ids)


def test_an_unknown_service_is_named(folder: Path) -> None:
    """Nobody here knows its action, so the policy lacks it."""
    auth = {"iam": {"service": "vpc-lattice-svcs", "region": "eu-west-1"}}
    config = configured(folder, {"a.B": {"target": "https://api.example.com", "auth": auth}})

    assert () == identities(config, PLACE)[0].statements
    assert ("services.a.B: requests to https://api.example.com are signed for vpc-lattice-svcs",) == unnamed(config)
