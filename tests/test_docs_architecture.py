"""ARCHITECTURE.md names what is there."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "ARCHITECTURE.md").read_text()
PROSE = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
PICTURE = PAGE.partition("## The picture")[2].split("```")[1]

PATHS = sorted(set(re.findall(r"`([\w./-]+(?:/|\.(?:py|md|yaml|toml)))`", PROSE)))
LINKS = re.findall(r"\]\(([\w./-]+)\)", PROSE)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under this heading, without its first two lines."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(requirements: Iterable[str]) -> set[str]:
    """The projects of requirements such as `h2>=4.4.1,<5`."""
    return {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements}


@pytest.mark.parametrize("path", [*PATHS, *LINKS])
def test_every_path_exists(path: str) -> None:
    """A path with NAME is one that a reader makes: its folder is there."""
    named = REPOSITORY / path
    found = named.parent if named.stem == "NAME" else named

    assert found.is_dir() if path.endswith("/") or named.stem == "NAME" else found.exists()


def test_paths_are_found_on_the_page() -> None:
    assert {"bridge/app.py", "bridge/carriers/http1/", "pyproject.toml"} <= set(PATHS)
    assert "docs/decisions" in LINKS


def test_every_folder_of_the_picture_is_a_package() -> None:
    folders = re.findall(r"([a-z0-9]+)/(?: |$)", PICTURE)

    assert {"server", "rpc", "emulator"} <= set(folders)
    assert [] == [name for name in folders if not (REPOSITORY / "bridge" / name).is_dir()]


def test_every_package_and_module_of_the_bridge_is_in_the_table_of_folders() -> None:
    """Packages at any depth, and the modules that belong to none."""
    bridge = REPOSITORY / "bridge"
    packages = {f.parent for f in bridge.rglob("__init__.py")} - {bridge}
    modules = {f for f in bridge.glob("*.py") if not f.name.startswith("__")}
    listed = {path for row in rows("Folders") for path in re.findall(r"`([\w./]+)`", row[0])}
    expected = {f"{folder.relative_to(REPOSITORY)}/" for folder in packages}
    expected |= {str(module.relative_to(REPOSITORY)) for module in modules}

    assert expected == {path for path in listed if path.startswith("bridge/")}


def test_the_table_of_folders_tells_which_packages_are_pure() -> None:
    """Those that the contract in pyproject.toml keeps from I/O and clocks."""
    linter = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
    contract = next(c for c in linter["contracts"] if c["name"].startswith("The pure packages"))
    pure = {f"`{name.replace('.', '/')}/`" for name in contract["source_modules"]}

    assert pure | {"`bridge/aws/events/`"} == {row[0] for row in rows("Folders") if row[2] == "yes"}


def test_the_table_of_dependencies_is_that_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    expected = {(name, "") for name in names(project["dependencies"])}
    expected |= {(name, extra) for extra in extras.keys() - {"dev"} for name in names(extras[extra])}
    shown = set()
    for library, *_ in rows("Dependencies"):
        extra = re.search(r"\(extra `(\w+)`\)", library)
        for name in library.partition(" (")[0].split(", "):
            shown.add((name, extra[1] if extra else ""))

    assert expected == shown


MODULES = {
    "PyYAML": ("yaml",),
    "protobuf": ("google.protobuf",),
    "googleapis-common-protos": ("google.api", "google.rpc", "google.type"),
    "grpcio": ("grpc",),
    "prometheus-client": ("prometheus_client",),
    "opentelemetry-sdk": ("opentelemetry",),
    "opentelemetry-exporter-otlp-proto-http": ("opentelemetry",),
}
"""The modules of the libraries that are not named like them."""
NOT_IMPORTED = {"debugpy", "awslambdaric", "grpcio-tools", "googleapis-common-protos", "uv"}
"""Programs that run in processes of their own; files that are found by their paths."""


def imported_by(file: Path) -> set[str]:
    """All names that a module imports anywhere in it, with their packages."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {".".join(name.split(".")[:depth]) for name in found for depth in range(1, name.count(".") + 2)}


def test_the_table_of_dependencies_says_who_uses_each() -> None:
    """The folders and files under `Used by` are those that import the library, no more and no less."""
    imports = {
        f"{file.relative_to(REPOSITORY)}": imported_by(file)
        for package in ("bridge", "lambda_fn")
        for file in (REPOSITORY / package).rglob("*.py")
    }
    for libraries, used_by, _ in rows("Dependencies"):
        named = set(libraries.partition(" (")[0].split(", ")) - NOT_IMPORTED
        wanted = {module for name in named for module in MODULES.get(name, (name,))}
        users = {file for file, modules in imports.items() if wanted & modules and file.startswith("bridge/")}
        places = re.findall(r"`([\w./]+)`", used_by)
        if not named:
            continue
        assert places or used_by == "all packages", libraries
        places = places or ["bridge/"]
        assert [] == [file for file in users if not any(file.startswith(place) for place in places)], libraries
        assert [] == [place for place in places if not any(file.startswith(place) for file in users)], libraries


def test_every_package_of_the_function_side_is_in_the_table_of_folders() -> None:
    packages = {f.parent for f in (REPOSITORY / "lambda_fn").rglob("__init__.py")}
    listed = {path for row in rows("Folders") for path in re.findall(r"`([\w./]+)`", row[0])}
    expected = {f"{folder.relative_to(REPOSITORY)}/" for folder in packages} - {"lambda_fn/examples/"}

    assert expected == {path for path in listed if path.startswith("lambda_fn/")}


def test_a_decision_has_a_number_and_four_paragraphs() -> None:
    """Question, choice, price and when to look again, in this order; the numbers have no gaps."""
    pages = sorted((REPOSITORY / "docs" / "decisions").glob("*.md"))

    assert [page.name[:3] for page in pages] == [f"{n:03}" for n in range(1, len(pages) + 1)]
    for page in pages:
        heads = re.findall(r"^\*\*(.+?)\.\*\* ", page.read_text(), re.MULTILINE)
        assert ["Question", "Choice", "Price", "Look again"] == heads, page.name
