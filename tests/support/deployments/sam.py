"""The SAM templates in plain terms: translated by AWS's own translator, with the nested stacks in place."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.deployments import cloudformation
from tests.support.deployments.cloudformation import Template

TRANSLATE = """
import json, sys
from samtranslator.translator.transform import transform

class NoPolicies:
    def load(self):
        return {}

given = json.load(sys.stdin)
print(json.dumps(transform(given["template"], given["parameters"], NoPolicies())))
"""


class Tags(yaml.SafeLoader):
    """CloudFormation's short functions in their long form."""


def _long_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    match node:
        case yaml.ScalarNode():
            value: Any = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case _:
            raise AssertionError(f"!{suffix} of a mapping is not used here")
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


Tags.add_multi_constructor("!", _long_form)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(), Tags)
    return found


def translated(path: Path, python: Path, parameters: Mapping[str, object]) -> dict[str, Any]:
    """The template without SAM's resources. The zips and nested templates are taken as uploaded."""
    template = read(path)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key.zip"
        if resource["Type"] == "AWS::Serverless::Application":
            resource["Properties"]["Location"] = f"https://bucket/{resource['Properties']['Location']}"
    done = subprocess.run(
        [python, "-c", TRANSLATE],
        input=json.dumps({"template": template, "parameters": parameters}),
        env={"AWS_DEFAULT_REGION": "eu-west-1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def parts(path: Path, python: Path, parameters: Mapping[str, object]) -> dict[str, list[dict[str, Any]]]:
    """The resources by kind, in plain terms."""
    template = Template(translated(path, python, parameters), parameters)
    found = cloudformation.parts(template)
    for kind, properties in template.resources().values():
        if kind == "AWS::CloudFormation::Stack":
            nested = read(path.parent / properties["TemplateURL"].rpartition("/")[2])
            for name, more in cloudformation.parts(Template(nested, properties["Parameters"])).items():
                found.setdefault(name, []).extend(more)
    return found
