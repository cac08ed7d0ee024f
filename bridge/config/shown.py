"""The configuration as an operator may read it: each value that holds, defaults included, and no secret.

Durations are in seconds, sizes in bytes. What the environment has filled in, the values of `headers` and `env`, and
external ids are hidden.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from typing import Any

import yaml
from msgspec import Struct

from bridge.config.schema import Config
from bridge.rpc.redaction import MARK, Redactor

_NOT_KEYS = frozenset(("filled", "named_files", "secrets", "warnings"))
_SECRETS = frozenset(("external_id", "headers", "env"))
"""Keys whose values may be secrets."""


def configuration_text(config: Config) -> str:
    """Return it as YAML."""
    plain = _plain(config, Redactor(config.filled | config.secrets))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def _plain(value: Any, redact: Redactor) -> Any:
    """Return the value as YAML has it. A value with a text of its own is that text, as the file would write it."""
    match value:
        case Enum():  # before the numbers and texts that some of them are
            return value.value if isinstance(value.value, str) else value.name
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {redact(str(key)): _plain(each, redact) for key, each in value.items()}
        case str():
            return redact(str(value))
        case Collection() if not isinstance(value, bytes):
            return [_plain(each, redact) for each in value]
    if type(value).__str__ is not object.__str__:
        return redact(str(value))
    return {name: _key(name, each, redact) for name, each in _fields(value)}


def _key(name: str, value: Any, redact: Redactor) -> Any:
    if name in _SECRETS:
        return _hidden(value)
    return f"{value:04o}" if name == "mode" else _plain(value, redact)


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = list(value.__struct_fields__) if isinstance(value, Struct) else []
    return ((name, getattr(value, name)) for name in names if name not in _NOT_KEYS)


def _hidden(value: Any) -> Any:
    """Return the names of secrets without their values."""
    if isinstance(value, Mapping):
        return dict.fromkeys(value, MARK)
    return MARK if value else value
