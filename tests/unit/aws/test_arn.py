from __future__ import annotations

import json
from importlib import resources

import botocore.session
import pytest
from botocore.endpoint_provider import EndpointProvider

from bridge.aws.arn import PARTITIONS, FunctionName, partition_in, partition_of

ARN_OF = "arn:aws:lambda:eu-west-1:123456789012:function:"
ARN = f"{ARN_OF}greeter"


def test_arn_with_a_qualifier() -> None:
    assert FunctionName(
        "greeter", "live", region="eu-west-1", account="123456789012", partition="aws"
    ) == FunctionName.from_arn(f"{ARN}:live")


@pytest.mark.parametrize(
    ("text", "name", "qualifier"),
    [
        ("greeter", "greeter", None),
        ("greeter:live", "greeter", "live"),
        ("greeter:7", "greeter", "7"),
        ("greeter:$LATEST", "greeter", "$LATEST"),
        ("my-fn_2", "my-fn_2", None),
        ("arn:live", "arn", "live"),
    ],
)
def test_names_and_qualifiers(text: str, name: str, qualifier: str | None) -> None:
    from_name, from_arn = FunctionName.from_name(text), FunctionName.from_arn(f"{ARN_OF}{text}")

    assert (name, qualifier) == (from_name.name, from_name.qualifier)
    assert (name, qualifier) == (from_arn.name, from_arn.qualifier)
    assert (None, f"{ARN_OF}{text}") == (from_name.arn, from_arn.arn)


@pytest.mark.parametrize(
    "text",
    ["", "a b", "a:b:c", "a/b", "greeter:", ":live", "greeter:$OTHER", "a\n", "arn:", "x" * 141, ARN],
)
def test_texts_that_name_no_function(text: str) -> None:
    with pytest.raises(ValueError, match="expected function:NAME"):
        FunctionName.from_name(text)
    with pytest.raises(ValueError, match="expected the ARN of a function"):
        FunctionName.from_arn(f"{ARN_OF}{text}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "greeter",
        "arn:aws:lambda:eu-west-1:123456789012:greeter",
        "arn:aws:lambda:eu-west-1:12345:function:greeter",
        "arn:aws:s3:eu-west-1:123456789012:function:greeter",
        "arn:aws:lambda::123456789012:function:greeter",
        "arn:aws:lambda:europe:123456789012:function:greeter",
        "arn:aws:lambda:eu-west-1:123456789012:function:",
        f"{ARN}:live:more",
        f"{ARN}/x",
        "arn:gcp:lambda:eu-west-1:123456789012:function:x",
        "arn:aws:lambda:evil.com/?-1:123456789012:function:x",
        "arn:aws:lambda:eu-west-1:\u0661\u0662\u0663456789012:function:x",
        "arn:aws:lambda:eu-west-\u0661:123456789012:function:x",
    ],
)
def test_texts_that_are_no_arn_of_a_function(text: str) -> None:
    with pytest.raises(ValueError, match="expected the ARN of a function"):
        FunctionName.from_arn(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        (ARN, "lambda.eu-west-1.amazonaws.com"),
        ("arn:aws-cn:lambda:cn-north-1:123456789012:function:x", "lambda.cn-north-1.amazonaws.com.cn"),
        ("arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:x", "lambda.us-gov-west-1.amazonaws.com"),
        ("arn:aws-iso:lambda:us-iso-east-1:123456789012:function:x", "lambda.us-iso-east-1.c2s.ic.gov"),
        ("arn:aws-iso-b:lambda:us-isob-east-1:123456789012:function:x", "lambda.us-isob-east-1.sc2s.sgov.gov"),
    ],
)
def test_endpoint_host(text: str, host: str) -> None:
    """An ARN's own region wins over any other."""
    assert host == FunctionName.from_arn(text).endpoint_host("us-east-1")


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "lambda.us-east-1.amazonaws.com"),
        ("cn-northwest-1", "lambda.cn-northwest-1.amazonaws.com.cn"),
        ("us-gov-east-1", "lambda.us-gov-east-1.amazonaws.com"),
        ("us-isob-east-1", "lambda.us-isob-east-1.sc2s.sgov.gov"),
    ],
)
def test_endpoint_host_of_a_bare_name(region: str, host: str) -> None:
    """The region tells the partition."""
    assert host == FunctionName.from_name("greeter").endpoint_host(region)


@pytest.mark.parametrize("region", [None, "", "europe", "eu-west-1.evil.com", "eu-west-1/"])
def test_bare_name_without_a_region(region: str | None) -> None:
    with pytest.raises(ValueError, match="region"):
        FunctionName.from_name("greeter").endpoint_host(region)


def test_partitions_are_those_of_botocore() -> None:
    """The independent check of our table."""
    text = resources.files("botocore").joinpath("data/partitions.json").read_text()
    theirs = {
        (partition["id"], partition["outputs"]["dnsSuffix"], partition["outputs"]["dualStackDnsSuffix"])
        for partition in json.loads(text)["partitions"]
    }
    partition_of_region = {
        region: partition["id"]
        for partition in json.loads(text)["partitions"]
        for region in partition["regions"]
        if "global" not in region
    }

    assert theirs == {(each.name, each.dns_suffix, each.dual_stack_suffix) for each in PARTITIONS}
    assert partition_of_region == {region: partition_of(region).name for region in partition_of_region}
    assert all(FunctionName("x").endpoint_host(region) for region in partition_of_region)
    for partition in PARTITIONS:
        assert partition.name == partition_of_region[partition.home_region]
        assert partition is partition_in(f"arn:{partition.name}:iam::123456789012:role/x")


def test_path_of_a_bare_name() -> None:
    found = FunctionName.from_name("greeter:live")

    assert "/2015-03-31/functions/greeter/invocations" == found.invoke_path
    assert "Qualifier=live" == found.invoke_query


def test_path_with_an_account() -> None:
    """The ARN goes into the path, quoted and unqualified, so that another account's function is found."""
    found = FunctionName.from_arn(f"{ARN}:$LATEST")

    assert (
        "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Agreeter/invocations"
        == found.invoke_path
    )
    assert "Qualifier=%24LATEST" == found.invoke_query


def test_query_without_a_qualifier() -> None:
    assert "" == FunctionName.from_arn(ARN).invoke_query


def test_text_for_clients_hides_the_account() -> None:
    assert "greeter:live" == str(FunctionName.from_arn(f"{ARN}:live"))


@pytest.mark.parametrize("uses_dual_stack", [False, True])
@pytest.mark.parametrize("uses_fips", [False, True])
def test_endpoints_are_those_of_botocores_rules(*, uses_fips: bool, uses_dual_stack: bool) -> None:
    """In every region of every partition."""
    loader = botocore.session.get_session().get_component("data_loader")
    rules = loader.load_service_model("lambda", "endpoint-rule-set-1")
    partitions = loader.load_data("partitions")
    provider = EndpointProvider(rules, partitions)
    regions = [name for each in partitions["partitions"] for name in each["regions"] if "global" not in name]
    theirs = {
        region: provider.resolve_endpoint(Region=region, UseFIPS=uses_fips, UseDualStack=uses_dual_stack).url
        for region in regions
    }

    assert theirs == {
        region: "https://"
        + FunctionName("f").endpoint_host(region, uses_fips=uses_fips, uses_dual_stack=uses_dual_stack)
        for region in regions
    }
