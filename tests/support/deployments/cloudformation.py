"""CloudFormation templates in plain terms: conditions decided, references replaced by names, nested stacks opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PSEUDO = {
    "AWS::StackName": "grpc",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::AccountId": "123456789012",
}
NO_VALUE = object()


class Template:
    """A template with values for its parameters."""

    def __init__(self, document: Mapping[str, Any], parameters: Mapping[str, object] | None = None) -> None:
        self._document = document
        given = {name: each.get("Default") for name, each in document.get("Parameters", {}).items()}
        lists = {name for name, each in document.get("Parameters", {}).items() if "List" in each["Type"]}
        self._parameters: dict[str, Any] = {**given, **(parameters or {})}
        for name in lists & self._parameters.keys():
            if isinstance(self._parameters[name], str):
                self._parameters[name] = self._parameters[name].split(",")

    def resources(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Type and properties of each resource whose condition holds, by logical id."""
        return {
            name: (each["Type"], self.value(each.get("Properties", {})))
            for name, each in self._document["Resources"].items()
            if "Condition" not in each or self._holds(each["Condition"])
        }

    def _holds(self, condition: str) -> bool:
        return bool(self.value(self._document["Conditions"][condition]))

    def value(self, node: Any) -> Any:
        """The node without intrinsic functions."""
        if isinstance(node, list):
            return [found for each in node if (found := self.value(each)) is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(function, argument)] = node.items()
            if function in {"Ref", "Condition"} and isinstance(argument, str):
                return self._holds(argument) if function == "Condition" else self._named(argument)
            if function.startswith("Fn::"):
                return self._called(function, argument)
        values = {name: self.value(each) for name, each in node.items()}
        return {name: found for name, found in values.items() if found is not NO_VALUE}

    def _named(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self._parameters:
            return self._parameters[name]
        return PSEUDO[name] if name in PSEUDO else self._label(name)

    def _label(self, name: str) -> str:
        """A function and an alias are what they are called, everything else is its type."""
        resource = self._document["Resources"][name]
        properties = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::Lambda::Function":
                return str(self.value(properties["FunctionName"]))
            case "AWS::Lambda::Alias":
                return f"{self.value(properties['FunctionName'])}:{self.value(properties['Name'])}"
            case "AWS::Logs::LogGroup":
                return str(self.value(properties["LogGroupName"]))
            case kind:
                return f"<{kind}>"

    def _called(self, function: str, argument: Any) -> Any:
        match function, argument:
            case "Fn::If", [condition, yes, no]:
                return self.value(yes if self._holds(condition) else no)
            case "Fn::Equals", [one, other]:
                return self.value(one) == self.value(other)
            case "Fn::Not", [one]:
                return not self.value(one)
            case "Fn::And", [*all_]:
                return all(self.value(each) for each in all_)
            case "Fn::Join", [separator, parts]:
                return separator.join(self.value(parts))
            case "Fn::GetAtt", [name, *_]:
                return self._label(name)
            case "Fn::GetAtt", str():
                return self._label(argument.partition(".")[0])
            case "Fn::FindInMap", [name, *keys]:
                found = self._document["Mappings"][name]
                for key in keys:
                    found = found[self.value(key)]
                return found
            case "Fn::Sub", str():
                return re.sub(r"\$\{([^}]+)\}", lambda match: str(self._named(match[1])), argument)
            case _:
                raise AssertionError(f"{function} of {argument} is not read here")


def parts(template: Template) -> dict[str, list[dict[str, Any]]]:
    """The resources by kind, in plain terms. Open URLs are left out: Terraform's provider grants that by itself."""
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, properties in template.resources().values():
        read = _READ.get(kind)
        if read is not None:
            found.setdefault(kind.rpartition("::")[2], []).append(read(properties))
    return found


def _function(p: dict[str, Any]) -> dict[str, Any]:
    vpc = p.get("VpcConfig") or {}
    return {
        "name": p["FunctionName"],
        "handler": p["Handler"],
        "runtime": p["Runtime"],
        "architectures": p["Architectures"],
        "memory": p["MemorySize"],
        "timeout": p["Timeout"],
        "environment": p.get("Environment", {}).get("Variables", {}),
        "subnets": vpc.get("SubnetIds", []),
        "groups": vpc.get("SecurityGroupIds", []),
    }


def _url(p: dict[str, Any]) -> dict[str, Any]:
    function, _, alias = p["TargetFunctionArn"].partition(":")
    return {
        "function": function,
        "alias": alias or p["Qualifier"],
        "auth": p["AuthType"],
        "mode": p["InvokeMode"],
    }


def _role(p: dict[str, Any]) -> dict[str, Any]:
    return {
        "trust": statements(p["AssumeRolePolicyDocument"]),
        "allowed": [one for each in p.get("Policies", []) for one in statements(each["PolicyDocument"])],
        "attached": [
            arn.rpartition("/")[2] if arn.startswith("arn:") else "bridge" for arn in p.get("ManagedPolicyArns", [])
        ],
    }


def _alarm(p: dict[str, Any]) -> dict[str, Any]:
    metrics = [
        {**one, "MetricName": one["MetricStat"]["Metric"]["MetricName"]} if "MetricStat" in one else one
        for one in p.get("Metrics", [])
    ]
    return {
        "metric": p.get("MetricName") or sorted(one.get("Expression") or one["MetricName"] for one in metrics),
        "dimensions": {
            (one["Name"], one["Value"])
            for dimensions in [
                p.get("Dimensions", []),
                *(one["MetricStat"]["Metric"]["Dimensions"] for one in metrics if "MetricStat" in one),
            ]
            for one in dimensions
        },
        "statistics": {p["Statistic"]}
        if "Statistic" in p
        else {o["MetricStat"]["Stat"] for o in metrics if "MetricStat" in o},
        "seconds": {p["Period"]}
        if "Period" in p
        else {o["MetricStat"]["Period"] for o in metrics if "MetricStat" in o},
        "of": (p["DatapointsToAlarm"], p["EvaluationPeriods"]),
        "when": (p["ComparisonOperator"], p["Threshold"], p["TreatMissingData"]),
        "description": p["AlarmDescription"],
        "notified": p.get("AlarmActions", []),
        "also when well": p.get("OKActions", []),
    }


def _rule(p: dict[str, Any]) -> dict[str, Any]:
    return {
        "group": p["GroupId"],
        "from": p["SourceSecurityGroupId"],
        "ports": (p["IpProtocol"], p["FromPort"], p["ToPort"]),
    }


_READ = {
    "AWS::Lambda::Function": _function,
    "AWS::Lambda::Alias": lambda p: {"function": p["FunctionName"], "name": p["Name"]},
    "AWS::Lambda::Url": _url,
    "AWS::Logs::LogGroup": lambda p: {"name": p["LogGroupName"], "days": p["RetentionInDays"]},
    "AWS::IAM::Role": _role,
    "AWS::IAM::ManagedPolicy": lambda p: {"allowed": statements(p["PolicyDocument"])},
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::EC2::SecurityGroupIngress": _rule,
}


def statements(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The statements of a policy, with one form for what IAM takes in several."""
    merged: dict[str, dict[str, Any]] = {}
    for one in document["Statement"]:
        form = {name: value for name, value in one.items() if name not in {"Action", "Resource"}}
        if "Resource" in one:
            form["Resource"] = sorted(_listed(one["Resource"]))
        same = merged.setdefault(repr(sorted(form.items(), key=str)), {**form, "Action": []})
        same["Action"] = sorted({*same["Action"], *_listed(one["Action"])})
    return list(merged.values())


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
