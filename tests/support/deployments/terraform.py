"""A Terraform module in plain terms, evaluated by Terraform itself without the provider.

Each resource becomes an output with its arguments. What only AWS knows (the ARN of another resource) becomes the name
of that resource. So expressions, conditions, types and validations are Terraform's own. What the provider would say
to the arguments is not known.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.deployments.cloudformation import statements

PARSE = "import hcl2, json, sys; print(json.dumps([hcl2.load(open(one)) for one in sys.argv[1:]]))"


class Refused(Exception):
    """Terraform's own words on variables that it refuses."""


@cache
def parsed(python: Path, *files: Path) -> list[dict[str, Any]]:
    """The files as python-hcl2 reads them."""
    done = subprocess.run([python, "-c", PARSE, *files], capture_output=True, text=True, check=True, timeout=60)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def evaluated(module: Path, python: Path, scratch: Path, variables: Mapping[str, object]) -> dict[str, Any]:
    """The resources by `TYPE.NAME`, each a mapping or a list of arguments. Raises Refused."""
    resources: dict[str, str] = {}
    kept: list[str] = []
    for document in parsed(python, *sorted(module.glob("*.tf"))):
        for resource in document.get("resource", []):
            [(kind, named)] = resource.items()
            [(name, body)] = named.items()
            resources[f"{_bare(kind)}.{_bare(name)}"] = _instances(body)
        kept += [f"locals {expression(block, multiline=True)}" for block in document.get("locals", [])]
        for block in document.get("module", []):
            [(name, body)] = block.items()
            kept.append(f"module {name} {expression(body, multiline=True)}")
    for child in (one for one in module.iterdir() if one.is_dir() and one.name != "examples"):
        shutil.copytree(child, scratch / child.name)
    shutil.copy(module / "variables.tf", scratch)
    fields = ",\n".join(f"{json.dumps(name)} = {text}" for name, text in resources.items())
    kept.append(f'output "all" {{\n  value = {{\n{fields}\n}}\n}}')
    (scratch / "all.tf").write_text("\n".join(_without_aws(one) for one in kept))
    return dict(outputs(scratch, variables)["all"])


def outputs(folder: Path, variables: Mapping[str, object]) -> dict[str, Any]:
    """The outputs of a module that needs no provider. Terraform writes into its folder. Raises Refused."""
    (folder / "terraform.tfvars.json").write_text(json.dumps(variables))
    for arguments in (["init"], ["apply", "-auto-approve"]):
        command = ["terraform", *arguments, "-no-color", "-input=false"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise Refused(done.stderr)
    done = subprocess.run(
        ["terraform", "output", "-json", "-no-color"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {name: one["value"] for name, one in json.loads(done.stdout).items()}


def _instances(body: dict[str, Any]) -> str:
    """One object for each instance, by its key, as an expression."""
    arguments = {name: value for name, value in body.items() if name not in {"for_each", "count", "depends_on"}}
    text = expression(arguments).replace("each.key", "key_").replace("each.value", "value_")
    if "for_each" in body:
        return f"{{ for key_, value_ in {expression(body['for_each'])} : key_ => {text} }}"
    if "count" in body:
        return f"[for number_ in range({expression(body['count'])}) : {text}]"
    return f"[{text}]"


def expression(value: object, *, multiline: bool = False) -> str:
    match value:
        case str() if value.startswith("${") and value.endswith("}"):
            return value[2:-1]
        case bool() | int() | float():
            return json.dumps(value)
        case list():
            return f"[{', '.join(map(expression, value))}]"
        case dict():
            fields = [f"{_bare(name)} = {expression(one)}" for name, one in value.items() if not name.startswith("__")]
            fields += [f"{name} = {text}" for name, text in _dynamic(value.get("dynamic", []))]
            fields = [one for one in fields if not one.startswith("dynamic = ")]
            separator = "\n" if multiline else ", "
            return f"{{\n{separator.join(fields)}\n}}" if multiline else f"{{ {separator.join(fields)} }}"
        case _:
            return str(value)


def _dynamic(blocks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    found = []
    for block in blocks:
        [(quoted, body)] = block.items()
        name = _bare(quoted)
        content = expression(body["content"][0]).replace(f"{name}.value", "each_")
        found.append((name, f"[for each_ in {expression(body['for_each'])} : {content}]"))
    return found


def _bare(text: str) -> str:
    return text.strip('"')


def _without_aws(text: str) -> str:
    """Only AWS knows these: they are called by their resource, and by its key where that is a name."""
    text = text.replace("data.aws_partition.current.partition", '"aws"')
    text = re.sub(r"\b(aws_\w+\.\w+)\[(name|key_)\](?:\.\w+)", r'"<\1 ${\2}>"', text)
    return re.sub(r"\b(aws_\w+\.\w+)(?:\[\d+\])?\.\w+", r'"<\1>"', text)


def parts(found: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The resources by CloudFormation's kind, in the same terms as cloudformation.parts gives them."""
    functions = found["aws_lambda_function.function"]
    attached = found["aws_iam_role_policy_attachment.network"]
    alarms = [
        one for name in ("counted", "near_timeout") for one in found[f"aws_cloudwatch_metric_alarm.{name}"].values()
    ]
    roles = [
        {
            "trust": statements(json.loads(role["assume_role_policy"])),
            "allowed": statements(json.loads(_named_logs(found["aws_iam_role_policy.logs"][key]["policy"], found))),
            "attached": [attached[key]["policy_arn"].rpartition("/")[2]] if key in attached else [],
        }
        for key, role in found["aws_iam_role.function"].items()
    ]
    roles += [
        {
            "trust": statements(json.loads(role["assume_role_policy"])),
            "allowed": [],
            "attached": ["bridge" for _ in found["aws_iam_role_policy_attachment.bridge"]],
        }
        for role in found["aws_iam_role.bridge"]
    ]
    made = {
        "Function": [_function(one) for one in functions.values()],
        "Alias": [
            {"function": functions[key]["function_name"], "name": one["name"]}
            for key, one in found["aws_lambda_alias.live"].items()
        ],
        "Url": [
            {
                "function": functions[key]["function_name"],
                "alias": found["aws_lambda_alias.live"][key]["name"],
                "auth": one["authorization_type"],
                "mode": one["invoke_mode"],
            }
            for key, one in found["aws_lambda_function_url.function"].items()
        ],
        "LogGroup": [
            {"name": one["name"], "days": one["retention_in_days"]}
            for one in found["aws_cloudwatch_log_group.function"].values()
        ],
        "Role": roles,
        "ManagedPolicy": [
            {"allowed": statements(json.loads(_named_aliases(one["policy"], found)))}
            for one in found["aws_iam_policy.bridge"]
        ],
        "Alarm": list(map(_alarm, alarms)),
        "SecurityGroupIngress": [
            {
                "group": one["security_group_id"],
                "from": one["referenced_security_group_id"],
                "ports": (one["ip_protocol"], one["from_port"], one["to_port"]),
            }
            for one in found["aws_vpc_security_group_ingress_rule.bridge_from_functions"]
        ],
    }
    return {kind: each for kind, each in made.items() if each}


def _named_logs(text: str, found: Mapping[str, Any]) -> str:
    """CloudFormation's ARN of a log group ends in :*, and Terraform's does not."""
    groups = found["aws_cloudwatch_log_group.function"]
    return _replaced(r"<aws_cloudwatch_log_group.function (\w+)>:\*", lambda key: groups[key]["name"], text)


def _named_aliases(text: str, found: Mapping[str, Any]) -> str:
    functions, aliases = found["aws_lambda_function.function"], found["aws_lambda_alias.live"]
    return _replaced(
        r"<aws_lambda_alias.live (\w+)>", lambda key: f"{functions[key]['function_name']}:{aliases[key]['name']}", text
    )


def _replaced(pattern: str, name: Any, text: str) -> str:
    plain = text.replace("\\u003c", "<").replace("\\u003e", ">")
    return re.sub(pattern, lambda match: name(match[1]), plain)


def _function(one: dict[str, Any]) -> dict[str, Any]:
    [vpc] = one["vpc_config"] or [{"subnet_ids": [], "security_group_ids": []}]
    return {
        "name": one["function_name"],
        "handler": one["handler"],
        "runtime": one["runtime"],
        "architectures": one["architectures"],
        "memory": one["memory_size"],
        "timeout": one["timeout"],
        "environment": one["environment"][0]["variables"],
        "subnets": vpc["subnet_ids"],
        "groups": vpc["security_group_ids"],
    }


def _alarm(one: dict[str, Any]) -> dict[str, Any]:
    queries = one.get("metric_query", [])
    metrics = [query["metric"][0] for query in queries if "metric" in query] or [{**one, "stat": one.get("statistic")}]
    expressions = [query["expression"] for query in queries if "expression" in query]
    names = sorted([*expressions, *(metric["metric_name"] for metric in metrics)])
    return {
        "metric": names if queries else names[0],
        "dimensions": {pair for metric in metrics for pair in metric["dimensions"].items()},
        "statistics": {metric["stat"] for metric in metrics},
        "seconds": {metric["period"] for metric in metrics},
        "of": (one["datapoints_to_alarm"], one["evaluation_periods"]),
        "when": (one["comparison_operator"], one["threshold"], one["treat_missing_data"]),
        "description": one["alarm_description"],
        "notified": one["alarm_actions"],
        "also when well": one["ok_actions"],
    }
