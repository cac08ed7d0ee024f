"""The JSON Schema for editors: it is current, takes what the bridge takes, and refuses what editors can see."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge import cli
from bridge.config.json_schema import json_schema
from bridge.config.reading import Plan
from bridge.config.schema import Config

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "docs" / "bridge.schema.json"

TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
}


def takes(shape: Mapping[str, Any], value: Any) -> bool:
    """Whether the value is valid, by the words of JSON Schema that the schema uses."""
    known = {"$schema", "title", "type", "enum", "anyOf", "pattern", "minimum", "maximum", "exclusiveMinimum"}
    known |= {"properties", "required", "additionalProperties", "items", "minItems"}
    assert set(shape) <= known, shape
    kinds = [shape["type"]] if isinstance(shape.get("type"), str) else shape.get("type", list(TYPES))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (
        any(isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds)
        or (isinstance(value, bool) and "boolean" in kinds)
    ) and all(
        (
            "enum" not in shape or value in shape["enum"],
            "anyOf" not in shape or any(takes(each, value) for each in shape["anyOf"]),
            not isinstance(value, str) or re.search(shape.get("pattern", ""), value) is not None,
            not is_number or shape.get("minimum", value) <= value <= shape.get("maximum", value),
            not is_number or "exclusiveMinimum" not in shape or value > shape["exclusiveMinimum"],
            not isinstance(value, list) or len(value) >= shape.get("minItems", 0),
            not isinstance(value, list) or all(takes(shape.get("items", {}), each) for each in value),
            not isinstance(value, dict) or takes_mapping(shape, value),
        )
    )


def takes_mapping(shape: Mapping[str, Any], value: dict[str, Any]) -> bool:
    others = shape.get("additionalProperties", True)
    return all(name in value for name in shape.get("required", ())) and all(
        takes(shape["properties"][name], each)
        if name in shape.get("properties", {})
        else others is True or (others is not False and takes(others, each))
        for name, each in value.items()
    )


def test_the_published_schema_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """If not: grpc-lambda-bridge check --schema > docs/bridge.schema.json."""
    assert 0 == cli.main(["check", "--schema"])
    assert PUBLISHED.read_text() == capsys.readouterr().out


@pytest.mark.parametrize("path", ["config.example.yaml", "lambda_fn/examples/bridge.yaml", "docker/bridge.yaml"])
def test_it_takes_the_examples(path: str) -> None:
    file = ROOT / path
    if not file.exists():
        pytest.skip(f"{path} is not in this tree")

    assert takes(json_schema(), yaml.safe_load(file.read_text()))


def test_it_has_every_key() -> None:
    properties = json_schema()["properties"]

    assert {name.partition(".")[0] for name in Plan.of(Config).slots} == set(properties)


GOOD = """\
services: {a.B: 'local:f', c.D: null, e.F: {split: {'local:f': 1, 'local:g': {weight: 2.5}}, timeout: 1m30s}}
---
services: {a.B: {target: 'https://h', auth: {iam: {service: lambda}}, headers: {a: 1, b: x}, tls: {ca: ca.pem}}}
---
listen: [{address: '0.0.0.0:1', tls: {cert: c, key: k}}, 'unix:/a']
workers: ${WORKERS}
drain: ${DRAIN:-5s}
---
services:
aws:
admin: null
emulator: http://127.0.0.1:9001
reflection: no
"""

BAD = """\
servces: {}
---
workers: many
---
workers: -1
---
drain: 5
---
drain: 5 minutes
---
http2: {engine: fast}
---
services: {a.B: {timout: 5s}}
---
services: [a.B]
---
functions: {f: {memory: 128}}
---
functions: {f: {command: ./bootstrap}}
---
listen: []
---
listen: {tls: {cert: c}}
---
reflection: maybe
---
services: {a.B: {split: {'local:f': 0}}}
---
services: {a.B: {retry: {budget: 20}}}
"""


@pytest.mark.parametrize("text", GOOD.split("---\n"))
def test_it_takes_what_the_bridge_takes(text: str) -> None:
    assert takes(json_schema(), yaml.safe_load(text))


@pytest.mark.parametrize("text", BAD.split("---\n"))
def test_it_refuses_what_an_editor_can_see(text: str) -> None:
    assert not takes(json_schema(), yaml.safe_load(text))


def test_it_is_json() -> None:
    assert json_schema() == json.loads(json.dumps(json_schema()))
