"""docs/configuration.md is what the schema and the example say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.config import schema
from bridge.config.iam import IamAuth
from bridge.config.reading import Plan, is_schema_class
from docs.mkdocs.configuration import page

PAGE = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
ROWS = {name: cells for name, *cells in re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \| (.*?) \|", PAGE, re.MULTILINE)}
CLASSES = [each for each in (*vars(schema).values(), IamAuth) if is_schema_class(each)]


def test_the_page_is_current() -> None:
    """`python -m docs.mkdocs.configuration > docs/configuration.md` writes it anew."""
    assert "\n".join(page()) + "\n" == PAGE


def test_every_key_has_a_row() -> None:
    """Keys of every class of the schema, at any depth."""
    shown = {part for name in ROWS for part in name.split(".")}
    keys = {part for each in CLASSES for name in Plan.of(each).slots for part in name.split(".")}

    assert {"max_request", "tenant", "instance_concurrency", "per_peer", "service"} <= keys
    assert set() == keys - shown - {"defaults", "services", "functions"}


@pytest.mark.parametrize(
    ("key", "value", "default"),
    [
        ("drain", "duration", "`25s`"),
        ("workers", "0 to 1,024", "`1`"),
        ("max_request", "size", "`4MiB`"),
        ("retry.budget", "percentage", "`20%`"),
        ("compression", "`pass` or `identity`", "`pass`"),
        ("listen.tls.cert", "text", "required"),
        ("listen.tls.client_ca", "text or null", "`null`"),
        ("handler", "text or null", "`null`"),
        ("reflection", "true or false", "`true`"),
    ],
)
def test_rows_have_values_and_defaults(key: str, value: str, default: str) -> None:
    assert [value, default] == ROWS[key][:2]


def test_keys_say_on_which_targets_they_work() -> None:
    services = PAGE.partition("## services")[2].partition("## functions")[0]
    works_on = dict(re.findall(r"^\| `([\w.]+)` \| .* \| ([^|]*) \|$", services, re.MULTILINE))

    assert "Lambda" == works_on["endpoint_url"]
    assert "`https://`, `grpcs://`" == works_on["tls.ca"]
    assert "all" == works_on["timeout"]
