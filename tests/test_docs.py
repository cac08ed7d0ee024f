"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bridge.config import schema
from bridge.config.iam import IamAuth
from bridge.config.load import VARIABLES, load, parse
from bridge.config.reading import Plan, is_schema_class
from bridge.config.schema import Config, Defaults, FunctionConfig, TargetShare

REPOSITORY = Path(__file__).parent.parent
EXAMPLE = REPOSITORY / "config.example.yaml"


def keys_of_the_file() -> set[str]:
    """Every key that some class of the schema reads."""
    classes = [*vars(schema).values(), IamAuth]
    plans = [Plan.of(each) for each in classes if is_schema_class(each)]
    names = {part for plan in plans for name in plan.slots for part in name.split(".")}
    return names | {"target", "split", "weight", "iam"}  # which services.py reads by hand


KEYS = sorted(keys_of_the_file())
DEFAULT_KEYS = {name.partition(".")[0] for plan in (Plan.of(Defaults), Plan.of(TargetShare)) for name in plan.slots}


def example() -> str:
    return EXAMPLE.read_text()


def uncommented() -> str:
    """The example with its examples in use: a # with one space after it begins prose, any other a line to use."""
    return re.sub(r"^#(?! [^ ]|$)", "", example(), flags=re.MULTILINE)


# -- configuration -----------------------------------------------------------------------------------------------------


def test_the_example_is_a_configuration_as_it_stands() -> None:
    config = load(EXAMPLE, environ={})

    assert () == config.warnings


def test_the_example_shows_the_defaults() -> None:
    """Outside services and functions, whose entries are examples."""
    config = load(EXAMPLE, environ={})
    usual = Config(services=config.services, functions=config.functions)

    assert usual == config


def test_every_entry_of_the_example_holds_defaults_too() -> None:
    """What `defaults` shows is what an entry has without it."""
    loaded = load(EXAMPLE, environ={})
    tree = yaml.safe_load(example())
    del tree["defaults"]
    without = parse(yaml.safe_dump(tree), file="f", folder=REPOSITORY, environ={})

    assert without.services == loaded.services


def test_the_function_of_the_example_holds_defaults() -> None:
    echo = load(EXAMPLE, environ={}).functions["echo"]

    assert FunctionConfig("echo", REPOSITORY, handler="lambda_fn.examples.echo.handler") == echo


def test_every_commented_line_of_the_example_works(tmp_path: Path) -> None:
    """An example that cannot be copied is none. Files it names are there; features to come count as done."""
    for name in ("tls.crt", "tls.key", "ca.crt", "client.crt", "client.key", "orders.binpb"):
        (tmp_path / name).touch()
    (tmp_path / "rusty").mkdir()
    text = uncommented()

    config = parse(text, file="f", folder=tmp_path, environ={"KEY": "k"})
    assert {
        "shop.v1.*",
        "orders.v1.Orders",
        "users.v1.Users",
        "search.v1.Search",
        "admin.v1.Admin",
    } < set(config.services)
    assert config.listen[0].tls is not None
    assert "rusty" in config.functions


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_in_the_example(key: str) -> None:
    assert re.search(rf"^[# ]*(- )?{key}:|[{{,] ?{key}\b", uncommented(), re.MULTILINE)


def test_every_default_key_is_shown_with_its_default() -> None:
    shown = yaml.safe_load(example())["defaults"]

    assert DEFAULT_KEYS == set(shown)


@pytest.mark.parametrize("name", ["BRIDGE_CONFIG", *VARIABLES])
def test_every_variable_is_in_the_example(name: str) -> None:
    assert name in example()


# -- pages -------------------------------------------------------------------------------------------------------------


PAGES = sorted(
    page
    for folder in (".", "docs", "docs/decisions", "docs/how-to-add", "benchmarks", "lambda_fn")
    for page in (REPOSITORY / folder).glob("*.md")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_row_of_a_table_has_the_cells_of_its_head(page: Path) -> None:
    """A row that is broken over two lines, or joined with the next, is shown as text or loses its end."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = table.splitlines()
        cells = {re.sub(r"`[^`]*`", "", row).count("|") for row in rows}

        assert len(cells) == 1, rows
        assert all(row.endswith("|") for row in rows), rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    targets = re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text())

    assert [] == [target for target in targets if not (page.parent / target).exists()]


# -- security ----------------------------------------------------------------------------------------------------------


def test_every_promise_of_security_has_tests_that_exist() -> None:
    """A row that names none, or one that was renamed, is no promise."""
    rows = [line for line in (REPOSITORY / "SECURITY.md").read_text().splitlines() if line.startswith("| ")]
    promises = [row for row in rows if "`tests/" in row]
    named = [name for row in promises for name in re.findall(r"`(tests/[^`]+)::(\w+)`", row)]
    lost = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (REPOSITORY / file).read_text()]

    assert [] == lost
    assert len(named) >= len(promises) >= 10
