"""deploy/sam, deploy/terraform, deploy/cdk: what their checkers say, that they make the same, the bridge's policy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bridge.cli import main
from tests.support.deployments import cloudformation, sam, terraform
from tests.support.deployments.cloudformation import Template, statements

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
TEMPLATE = DEPLOY / "sam/template.yaml"
MODULE = DEPLOY / "terraform"
EXAMPLE = MODULE / "examples/two-functions"
CDK = DEPLOY / "cdk"
LINT = ROOT / ".cache/tools/lint/bin"
NODE_MODULES = ROOT / ".cache/tools/cdk/node_modules"
BINDINGS = NODE_MODULES / "@cdktf/provider-aws"

needs_lint = pytest.mark.skipif(
    not (LINT / "python").exists(), reason="cfn-lint is not there: bash .ci/tools installs it"
)
needs_cdk = pytest.mark.skipif(not NODE_MODULES.exists(), reason="the CDK is not there: bash .ci/tools installs it")
needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="needs the program terraform")

NETWORK: dict[str, Any] = {
    "subnet_ids": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
    "security_group_id": "sg-0123456789abcdef0",
    "bridge_security_group_id": "sg-0123456789abcdef1",
}
PROVIDER = "arn:aws:lambda:eu-west-1:123456789012:capacity-provider:p"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the example": ({"BridgeRunsOn": "ecs"}, {"bridge_runs_on": "ecs"}),
    "in a VPC": (
        {
            "SubnetIds": ",".join(NETWORK["subnet_ids"]),
            "SecurityGroupId": NETWORK["security_group_id"],
            "BridgeSecurityGroupId": NETWORK["bridge_security_group_id"],
            "BridgeRunsOn": "pod-identity",
        },
        {"vpc": NETWORK, "bridge_runs_on": "pod-identity"},
    ),
    "called at URLs": (
        {"BridgeCalls": "url", "BridgeRunsOn": "ec2", "InvokeMode": "BUFFERED"},
        {"bridge_calls": "url", "bridge_runs_on": "ec2"},
    ),
    "another language": (
        {"Runtime": "provided.al2023", "ExecWrapper": ""},
        {"runtime": "provided.al2023"},
    ),
    "another start": (
        {"ExecWrapper": "/opt/start"},
        {"exec_wrapper": "/opt/start"},
    ),
    "other numbers": (
        {
            "Architecture": "x86_64",
            "Runtime": "python3.12",
            "Alias": "stable",
            "LogRetentionDays": 7,
            "AlarmTopicArn": TOPIC,
            "ErrorsPerMinute": 5,
            "ThrottlesPerMinute": 50,
            "TimeoutPercent": 80,
        },
        {
            "architecture": "x86_64",
            "runtime": "python3.12",
            "alias": "stable",
            "log_retention_days": 7,
            "alarm_topic_arns": [TOPIC],
            "alarm_thresholds": {"errors_per_minute": 5, "throttles_per_minute": 50, "timeout_percent": 80},
        },
    ),
}


def example_functions(scratch: Path) -> dict[str, Any]:
    """The functions of the Terraform example, with objects in S3 for its zips."""
    [document] = terraform.parsed(LINT / "python", EXAMPLE / "main.tf")
    [(_, call)] = document["module"][0].items()
    scratch.mkdir()
    (scratch / "main.tf").write_text(
        f'output "functions" {{\n  value = {terraform.expression(call["functions"])}\n}}\n'
    )
    found: dict[str, Any] = terraform.outputs(scratch, {})["functions"]
    for name, one in found.items():
        assert one.pop("zip").endswith(f"/dist/{name}.zip")
        one["s3"] = {"bucket": "bucket", "key": f"{name}.zip"}
    return found


def by_terraform(scratch: Path, **variables: Any) -> dict[str, Any]:
    given = {"prefix": "grpc", "functions": example_functions(scratch / "example"), **variables}
    (scratch / "module").mkdir()
    return terraform.evaluated(MODULE, LINT / "python", scratch / "module", given)


def ordered(parts: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {kind: sorted(each, key=repr) for kind, each in sorted(parts.items())}


# -- their checkers ----------------------------------------------------------------------------------------------------


@needs_lint
@pytest.mark.parametrize("name", ["template.yaml", "function-parts.yaml"])
def test_cfn_lint_finds_nothing(name: str) -> None:
    """Schema, types and references of the templates."""
    result = subprocess.run([LINT / "cfn-lint", DEPLOY / "sam" / name], capture_output=True, text=True, timeout=120)

    assert (0, "") == (result.returncode, result.stdout)


@needs_lint
@pytest.mark.parametrize(
    ("function", "property_", "found"),
    [
        ("Echo", {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}, {"TenantIsolationMode": "PER_TENANT"}),
        (
            "Greeter",
            {"CapacityProviderConfig": {"Arn": PROVIDER, "PerExecutionEnvironmentMaxConcurrency": 16}},
            {
                "LambdaManagedInstancesCapacityProviderConfig": {
                    "CapacityProviderArn": PROVIDER,
                    "PerExecutionEnvironmentMaxConcurrency": 16,
                }
            },
        ),
    ],
)
def test_sams_readme_names_properties_that_there_are(
    function: str, property_: dict[str, Any], found: dict[str, Any], tmp_path: Path
) -> None:
    """cfn-lint takes them, and AWS's translator passes them on."""
    [(name, value)] = property_.items()
    text = TEMPLATE.read_text().replace(
        f"  {function}:\n    Type: AWS::Serverless::Function\n    Properties:\n",
        f"  {function}:\n    Type: AWS::Serverless::Function\n    Properties:\n      {name}: {json.dumps(value)}\n",
    )
    if name == "CapacityProviderConfig":
        before, _, after = text.partition("    VpcConfig: !If\n")
        text = before + after[after.index("\n\nResources:") :]
    (tmp_path / "template.yaml").write_text(text)
    result = subprocess.run(
        [LINT / "cfn-lint", tmp_path / "template.yaml"], capture_output=True, text=True, timeout=120
    )
    translated = sam.translated(tmp_path / "template.yaml", LINT / "python", {})

    assert f"`{name}: {{" in (DEPLOY / "sam/README.md").read_text()
    assert (0, "") == (result.returncode, result.stdout)
    assert found == translated["Resources"][function]["Properties"][name]


@needs_terraform
def test_the_hcl_is_formatted() -> None:
    command = ["terraform", "fmt", "-check", "-recursive", "-no-color", str(MODULE)]

    assert 0 == subprocess.run(command, capture_output=True, timeout=60).returncode


@needs_lint
@pytest.mark.parametrize("path", sorted(MODULE.rglob("*.tf")), ids=lambda path: str(path.relative_to(MODULE)))
def test_the_hcl_parses_and_says_what_its_variables_are(path: Path) -> None:
    [document] = terraform.parsed(LINT / "python", path)

    for block in [*document.get("variable", []), *document.get("output", [])]:
        [(name, body)] = block.items()
        assert body.get("description"), name
    for block in document.get("variable", []):
        [(name, body)] = block.items()
        assert body.get("type"), name


def arguments(body: dict[str, Any]) -> set[str]:
    """The names of arguments and blocks, nested ones too."""
    found: set[str] = set()
    for name, value in body.items():
        if name.startswith("__") or name in {"for_each", "count", "depends_on", "lifecycle"}:
            continue
        if name == "dynamic":
            for block in value:
                [(label, dynamic)] = block.items()
                found |= {label.strip('"'), *arguments(dynamic["content"][0])}
            continue
        found.add(name)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            found |= set().union(*map(arguments, value))
    return found


@needs_lint
@needs_cdk
@pytest.mark.parametrize("path", sorted(MODULE.glob("*.tf")), ids=lambda path: path.name)
def test_the_provider_knows_every_argument(path: Path) -> None:
    """By the names in its published bindings for TypeScript, since the provider itself is not installed."""
    [document] = terraform.parsed(LINT / "python", path)
    for resource in document.get("resource", []):
        [(kind, named)] = resource.items()
        folder = kind.strip('"').removeprefix("aws_").replace("_", "-")
        text = (BINDINGS / "lib" / folder / "index.d.ts").read_text()
        known = set(re.findall(r"#([a-z0-9_]+) \w+#\1\b", text))
        for body in named.values():
            assert set() == arguments(body) - known


SOUND = {"zip": "greeter.zip"}


@needs_terraform
def test_terraform_takes_the_least_that_there_is(tmp_path: Path) -> None:
    shutil.copy(MODULE / "variables.tf", tmp_path)

    assert {} == terraform.outputs(tmp_path, {"prefix": "grpc", "functions": {"a": SOUND}})


@needs_terraform
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"prefix": "a b"}, "The prefix needs"),
        ({"prefix": "a" * 21}, "The prefix needs"),
        ({"functions": {}}, "at least one function"),
        ({"functions": {"a b": SOUND}}, "The name of a function"),
        ({"functions": {"a": {}}}, "either zip or s3"),
        ({"functions": {"a": {**SOUND, "s3": {"bucket": "b", "key": "k"}}}}, "either zip or s3"),
        ({"functions": {"a": {**SOUND, "timeout": 1801}}}, "1 to 1800 seconds"),
        ({"functions": {"a": {**SOUND, "memory_size": 64}}}, "128 to 32768"),
        ({"functions": {"a": {**SOUND, "url": {"auth": "none"}}}}, "url.auth is AWS_IAM"),
        ({"functions": {"a": {**SOUND, "url": {"invoke_mode": "STREAM"}}}}, "url.invoke_mode is"),
        ({"functions": {"a": {**SOUND, "url": {}, "tenants": True}}}, "cannot have a URL"),
        ({"architecture": "arm"}, "arm64 and x86_64"),
        ({"alias": "1"}, "not digits alone"),
        ({"vpc": {"subnet_ids": [], "security_group_id": "sg"}}, "at least one subnet"),
        ({"vpc": {**NETWORK, "duplex_from_port": 2, "duplex_to_port": 1}}, "is above"),
        ({"bridge_calls": "http"}, "invoke or url"),
        ({"bridge_calls": "url"}, "no function has a URL with AWS_IAM"),
        ({"bridge_calls": "url", "functions": {"a": {**SOUND, "url": {"auth": "NONE"}}}}, "no function has a URL"),
        ({"bridge_runs_on": "eks"}, "pod-identity"),
    ],
)
def test_terraform_refuses_what_lambda_would(variables: dict[str, Any], words: str, tmp_path: Path) -> None:
    shutil.copy(MODULE / "variables.tf", tmp_path)

    with pytest.raises(terraform.Refused) as refused:
        terraform.outputs(tmp_path, {"prefix": "grpc", "functions": {"a": SOUND}, **variables})
    assert words in " ".join(str(refused.value).split())


# -- the same ----------------------------------------------------------------------------------------------------------


@needs_lint
@needs_terraform
@pytest.mark.parametrize("case", CASES)
def test_sam_and_terraform_make_the_same(case: str, tmp_path: Path) -> None:
    parameters, variables = CASES[case]
    by_sam = sam.parts(TEMPLATE, LINT / "python", parameters)
    if "InvokeMode" in parameters:
        functions = example_functions(tmp_path / "functions")
        functions["greeter"]["url"]["invoke_mode"] = parameters["InvokeMode"]
        variables = {**variables, "functions": functions}

    assert ordered(terraform.parts(by_terraform(tmp_path, **variables))) == ordered(by_sam)


@needs_lint
@pytest.mark.parametrize(("auth", "permissions"), [("AWS_IAM", 0), ("NONE", 2)])
def test_an_open_url_has_both_permissions(auth: str, permissions: int) -> None:
    """SAM's translator sees no NONE in a parameter."""
    parameters = {"UrlAuth": auth}
    template = Template(sam.translated(TEMPLATE, LINT / "python", parameters), parameters)
    found = [properties for kind, properties in template.resources().values() if kind == "AWS::Lambda::Permission"]

    assert permissions == len(found)
    assert all(("*", "grpc-greeter:live") == (one["Principal"], one["FunctionName"]) for one in found)
    if found:
        assert {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"} == {one["Action"] for one in found}
        assert [("NONE", None), (None, True)] == [
            (one.get("FunctionUrlAuthType"), one.get("InvokedViaFunctionUrl")) for one in found
        ]


@needs_lint
@needs_terraform
def test_tenants_and_managed_instances_are_blocks_of_their_own(tmp_path: Path) -> None:
    provider = {"arn": PROVIDER, "max_concurrency": 16}
    functions = {
        "plain": {"s3": {"bucket": "b", "key": "k"}},
        "other": {"s3": {"bucket": "b", "key": "k"}, "tenants": True, "capacity_provider": provider},
    }
    resources = by_terraform(tmp_path, functions=functions, vpc=NETWORK)
    found = resources["aws_lambda_function.function"]

    assert (1, []) == (len(found["plain"]["vpc_config"]), found["other"]["vpc_config"])
    assert {"plain"} == resources["aws_iam_role_policy_attachment.network"].keys()
    assert ([], []) == (found["plain"]["tenancy_config"], found["plain"]["capacity_provider_config"])
    assert [{"tenant_isolation_mode": "PER_TENANT"}] == found["other"]["tenancy_config"]
    [block] = found["other"]["capacity_provider_config"]
    [managed] = block["lambda_managed_instances_capacity_provider_config"]
    assert (provider["arn"], 16) == (
        managed["capacity_provider_arn"],
        managed["per_execution_environment_max_concurrency"],
    )


# -- the bridge's policy -----------------------------------------------------------------------------------------------

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:"
HOST = "abc123.lambda-url.eu-west-1.on.aws"
CONFIGURATIONS = {
    "invoke": (f"services: {{helloworld.Greeter: {ARN}grpc-greeter:live, dev.Echo: {ARN}grpc-echo:live}}", ()),
    "url": (
        f"services: {{helloworld.Greeter: {{target: 'https://{HOST}', auth: iam}}}}",
        ("--function", f"{HOST}={ARN}grpc-greeter:live"),
    ),
}


def printed_by_iam(calls: str, place: str, scratch: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    text, options = CONFIGURATIONS[calls]
    (scratch / "bridge.yaml").write_text(text)
    assert 0 == main(["iam", "-c", str(scratch / "bridge.yaml"), "--runs-on", place, *options])
    found: dict[str, Any] = json.loads(capsys.readouterr().out.replace(ARN, ""))["bridge"]
    return found


@needs_lint
@pytest.mark.parametrize("place", ["ec2", "ecs", "pod-identity"])
@pytest.mark.parametrize("calls", CONFIGURATIONS)
def test_sams_policy_is_the_one_that_iam_prints(
    calls: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = printed_by_iam(calls, place, tmp_path, capsys)
    parts = sam.parts(TEMPLATE, LINT / "python", {"BridgeCalls": calls, "BridgeRunsOn": place})
    [role] = [one for one in parts["Role"] if one["attached"] == ["bridge"]]

    assert [{"allowed": statements(expected["policy"])}] == parts["ManagedPolicy"]
    assert statements(expected["trust_policy"]) == role["trust"]


@needs_terraform
@pytest.mark.parametrize("place", ["ec2", "ecs", "pod-identity"])
@pytest.mark.parametrize("calls", CONFIGURATIONS)
def test_terraforms_policy_is_the_one_that_iam_prints(
    calls: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = printed_by_iam(calls, place, tmp_path, capsys)
    named = (
        {"invoked": ["grpc-greeter:live", "grpc-echo:live"]} if calls == "invoke" else {"by_url": ["grpc-greeter:live"]}
    )
    shutil.copytree(MODULE / "bridge-policy", tmp_path / "policy")
    found = terraform.outputs(tmp_path / "policy", {**named, "runs_on": place})

    assert expected["policy"] == json.loads(found["policy"])
    assert statements(expected["trust_policy"]) == statements(json.loads(found["trust_policy"]))


# -- the CDK -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The construct and its example, compiled, in a copy of the repository that has the zips."""
    root = tmp_path_factory.mktemp("repository")
    folder = root / "deploy/cdk"
    shutil.copytree(CDK, folder, ignore=shutil.ignore_patterns("node_modules", "build", "cdk.out"))
    (folder / "node_modules").symlink_to(NODE_MODULES)
    (root / "dist").mkdir()
    for name in ("greeter", "echo"):
        with zipfile.ZipFile(root / f"dist/{name}.zip", "w") as packed:
            packed.writestr("app.py", f"# {name}")
    return folder


def synthesized(folder: Path, out: Path, *options: str) -> Path:
    """What `cdk synth` writes, without Docker, network and credentials."""
    home = out.parent / "home"
    home.mkdir(exist_ok=True)
    cdk = str(folder / "node_modules/.bin/cdk")
    done = subprocess.run(
        [cdk, "synth", "--quiet", "--no-notices", "--no-version-reporting", "--output", str(out), *options],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "CDK_DOCKER": "false", "CI": "true"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return out / "grpc.template.json"


@needs_lint
@needs_terraform
@needs_cdk
@pytest.mark.full(part="packaging")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("case", ["the example", "in a VPC"])
def test_the_cdk_makes_the_same(case: str, cdk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """tsc and cfn-lint find nothing; the example is Terraform's; the policy is the one that iam prints."""
    _, variables = CASES[case]
    options = ["-c", f"network={json.dumps(camel(variables['vpc']))}"] if "vpc" in variables else []
    path = synthesized(cdk, tmp_path / "out", *options)
    # The CDK writes DependsOn for roles that a function refers to anyhow.
    result = subprocess.run([LINT / "cfn-lint", "-i", "W3005", "--", path], capture_output=True, text=True, timeout=120)
    parts = cloudformation.parts(Template(json.loads(path.read_text())))
    expected = printed_by_iam("invoke", "ecs", tmp_path, capsys)

    assert (0, "") == (result.returncode, result.stdout)
    assert ordered(terraform.parts(by_terraform(tmp_path, **{**variables, "bridge_runs_on": "ecs"}))) == ordered(parts)
    assert [{"allowed": statements(expected["policy"])}] == parts["ManagedPolicy"]


OTHERS = """
const { App, Stack } = require("aws-cdk-lib");
const lambda = require("aws-cdk-lib/aws-lambda");
const { Bucket } = require("aws-cdk-lib/aws-s3");
const { GrpcFunctions } = require("./build/lib/grpc-functions");

const stack = new Stack(new App(), "others");
const code = lambda.Code.fromBucketV2(Bucket.fromBucketName(stack, "Zips", "zips"), "x.zip");
new GrpcFunctions(stack, "Go", {
  prefix: "go", runtime: lambda.Runtime.PROVIDED_AL2023, functions: { orders: { code, handler: "bootstrap" } },
});
const arn = "arn:aws:lambda:eu-west-1:123456789012:capacity-provider:p";
new GrpcFunctions(stack, "Services", {
  prefix: "grpc", bridgeCalls: "url", bridgeRunsOn: "pod-identity",
  network: { subnetIds: ["subnet-0123456789abcdef0"], securityGroupId: "sg-0123456789abcdef0" },
  functions: {
    greeter: { code, url: {} },
    open: { code, url: { auth: lambda.FunctionUrlAuthType.NONE, invokeMode: lambda.InvokeMode.BUFFERED } },
    shared: { code, tenants: true, capacityProvider: { arn, maxConcurrency: 16 } },
  },
});
try {
  new GrpcFunctions(stack, "Wrong", { prefix: "x", functions: { both: { code, url: {}, tenants: true } } });
} catch (error) {
  console.error(error.message);
}
console.log(JSON.stringify(require("aws-cdk-lib/assertions").Template.fromStack(stack).toJSON()));
"""


@needs_lint
@needs_cdk
@pytest.mark.full(part="packaging")
@pytest.mark.timeout(400)
def test_the_construct_has_what_its_example_does_not_use(
    cdk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calls by URL, open URLs, tenants and Managed Instances."""
    subprocess.run([cdk / "node_modules/.bin/tsc"], cwd=cdk, check=True, timeout=200)
    (cdk / "others.js").write_text(OTHERS)
    done = subprocess.run(["node", "others.js"], cwd=cdk, capture_output=True, text=True, timeout=100, check=True)
    template = Template(json.loads(done.stdout.replace('"Wrong', '"Ignored')))
    (tmp_path / "others.json").write_text(done.stdout)
    parts = cloudformation.parts(template)
    [policy] = [one for one in parts["ManagedPolicy"] if one["allowed"][0]["Sid"] != "InvokeFunctions"]
    by_name = {p["FunctionName"]: p for kind, p in template.resources().values() if kind == "AWS::Lambda::Function"}
    open_to = [p for kind, p in template.resources().values() if kind == "AWS::Lambda::Permission"]
    expected = printed_by_iam("url", "pod-identity", tmp_path, capsys)
    [role] = [one for one in parts["Role"] if one["attached"] == ["bridge"]]

    assert {} == by_name["go-orders"].get("Environment", {})
    assert {"AWS_LAMBDA_EXEC_WRAPPER"} == by_name["grpc-open"]["Environment"]["Variables"].keys()
    assert "both: a function that isolates tenants cannot have a URL" in done.stderr
    assert {"allowed": statements(expected["policy"])} == policy
    assert statements(expected["trust_policy"]) == role["trust"]
    assert {"TenantIsolationMode": "PER_TENANT"} == by_name["grpc-shared"]["TenancyConfig"]
    managed = by_name["grpc-shared"]["CapacityProviderConfig"]["LambdaManagedInstancesCapacityProviderConfig"]
    assert 16 == managed["PerExecutionEnvironmentMaxConcurrency"]
    assert ["grpc-greeter", "grpc-open"] == sorted(name for name, each in by_name.items() if "VpcConfig" in each)
    assert {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"} == {one["Action"] for one in open_to}
    assert all("grpc-open:live" == one["FunctionName"] for one in open_to)


def camel(values: dict[str, Any]) -> dict[str, Any]:
    return {re.sub(r"_(\w)", lambda match: match[1].upper(), name): value for name, value in values.items()}
