"""What people who contribute rely on: workflows, templates and hooks do what CONTRIBUTING.md says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lambda_fn.hatch_build import last_release

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
ACTIONLINT = ROOT / ".cache/tools/bin/actionlint"
PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(workflow: Path) -> list[str]:
    jobs = read(workflow)["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.skipif(not ACTIONLINT.exists(), reason="actionlint is not there: bash .ci/tools installs it")
def test_the_workflows_pass_their_linter() -> None:
    done = subprocess.run([ACTIONLINT, "-no-color", *WORKFLOWS], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stdout)


def test_ci_runs_the_same_steps_everywhere() -> None:
    assert "bash .ci/run" in commands(ROOT / ".github/workflows/ci.yml")


def test_a_release_is_tested_on_each_python_and_published_without_a_password() -> None:
    jobs = read(ROOT / ".github/workflows/release.yml")["jobs"]
    images = next(step for step in jobs["images"]["steps"] if step.get("id") == "build")

    assert PYTHONS == jobs["test"]["strategy"]["matrix"]["python"]
    assert "test" == jobs["packages"]["needs"]
    assert {"id-token": "write"} == jobs["publish"]["permissions"]
    assert "linux/amd64,linux/arm64" == images["with"]["platforms"]
    assert images["with"]["sbom"] is True
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_the_targets_and_files_that_a_workflow_names_exist(workflow: Path) -> None:
    text = "\n".join(commands(workflow))

    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= make_targets()
    for name in re.findall(r"\b((?:docker|lambda_fn|\.ci)/[\w./-]+)", text):
        assert (ROOT / name).exists(), name


def test_every_hook_is_a_target_of_the_makefile() -> None:
    hooks = [hook for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]

    assert {"make format", "make lint", "make types", "make imports", "make fast"} == {hook["entry"] for hook in hooks}
    assert {hook["entry"].removeprefix("make ") for hook in hooks} <= make_targets()


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_asks_for(form: Path) -> None:
    """GitHub, "Syntax for issue forms": name, description and body; each input with an id of its own and a label."""
    whole = read(form)
    inputs = [part for part in whole["body"] if part["type"] != "markdown"]

    assert {"name", "description", "body"} <= whole.keys()
    assert inputs
    assert all(part["attributes"]["label"] for part in inputs)
    assert len(inputs) == len({part["id"] for part in inputs})


def test_all_places_name_the_same_last_release() -> None:
    """A release changes them together, as CONTRIBUTING.md says."""
    chart = read(ROOT / "deploy/helm/grpc-lambda-bridge/Chart.yaml")

    assert (last_release(), last_release()) == (chart["version"], chart["appVersion"])
    assert f"ARG VERSION={last_release()}+local\n" in (ROOT / "docker/bridge.Dockerfile").read_text()
