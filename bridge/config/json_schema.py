"""The JSON Schema of the configuration, for editors. It derives from the schema: the keys, and what each reader takes.

It is looser than the bridge itself: what several keys can only get wrong together, `check` finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.config.reading import Plan, shape_of_class, shape_of_keys
from bridge.config.schema import Admin, Config, Defaults, Emulator, FunctionConfig, Listener, TargetShare
from bridge.config.values import JsonShape, shape_of, weight

_DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest one that editors commonly know."""

_VARIABLE: JsonShape = {"type": "string", "pattern": "\\$\\{"}
"""A value that `${NAME}` brings in."""
_TEXT: JsonShape = {"type": "string"}
_NULL: JsonShape = {"type": "null"}
_SCALARS = ("integer", "number", "boolean")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file."""
    keys: dict[str, Any] = dict(shape_of_class(Config))
    properties = dict(keys["properties"])
    listener = shape_of_class(Listener)
    properties["listen"] = {"anyOf": [listener, {"type": "array", "items": listener, "minItems": 1}]}
    properties["admin"] = {"anyOf": [shape_of_class(Admin), _NULL]}
    properties["emulator"] = {"anyOf": [_TEXT, shape_of_class(Emulator)]}
    properties["defaults"] = _or_null(shape_of_keys(_shared_keys()))
    properties["services"] = _mapping_of({"anyOf": [_TEXT, _NULL, _entry()]})
    properties["functions"] = _mapping_of(_function())
    whole = {"$schema": _DIALECT, "title": "grpc-lambda-bridge", **keys, "properties": properties}
    return {name: _with_variables(value) for name, value in whole.items()}


def _shared_keys() -> dict[str, Any]:
    return {**Plan.of(Defaults).slots, **Plan.of(TargetShare).slots}


def _entry() -> JsonShape:
    """Return an entry of `services`."""
    entry: dict[str, Any] = dict(shape_of_keys(_shared_keys()))
    share: dict[str, Any] = dict(shape_of_class(TargetShare))
    share["properties"] = {"weight": shape_of(weight), **share["properties"]}
    split = _mapping_of({"anyOf": [shape_of(weight), share]})
    entry["properties"] = {"target": {"anyOf": [_TEXT, _NULL]}, "split": split, **entry["properties"]}
    return entry


def _function() -> JsonShape:
    """Return an entry of `functions`. Its folder has a default."""
    function: dict[str, Any] = dict(shape_of_class(FunctionConfig))
    function["required"] = [name for name in function.get("required", ()) if name != "code"]
    return {name: value for name, value in function.items() if value != []}


def _mapping_of(value: JsonShape) -> JsonShape:
    return _or_null({"type": "object", "additionalProperties": value})


def _or_null(shape: JsonShape) -> JsonShape:
    """Nothing written under a key is null for YAML."""
    return {"anyOf": [shape, _NULL]}


def _with_variables(shape: Any) -> Any:
    """Let a variable stand wherever a single value may."""
    if isinstance(shape, Mapping):
        walked = {name: _with_variables(value) for name, value in shape.items()}
        is_scalar = "enum" in walked or "pattern" in walked or walked.get("type") in _SCALARS
        return {"anyOf": [walked, dict(_VARIABLE)]} if is_scalar else walked
    return [_with_variables(each) for each in shape] if isinstance(shape, list) else shape
