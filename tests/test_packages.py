"""The two packages: their version, and that they build, install and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lambda_fn.hatch_build import last_release, version, with_absolute_links

ROOT = Path(__file__).parent.parent
TWINE = ROOT / ".cache/tools/lint/bin/twine"
PROJECTS = (ROOT, ROOT / "lambda_fn")
RELEASE = last_release()


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    """Standard output. What fails says all that it printed."""
    names = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "PACKAGE_VERSION", "PYTHONPATH", "MAKEFLAGS")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(command, cwd=cwd, env={**kept, **environ}, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def git(folder: Path, *words: str) -> str:
    return run("git", "-c", "user.name=a", "-c", "user.email=a@b", *words, cwd=folder)


# -- the version -------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that tell the version, in a folder without git."""
    monkeypatch.delenv("PACKAGE_VERSION", raising=False)
    (tmp_path / "checkout/lambda_fn").mkdir(parents=True)
    for name in ("pyproject.toml", "lambda_fn/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)
    return tmp_path / "checkout"


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "a")


def test_without_git_it_is_the_last_release_and_local(checkout: Path) -> None:
    assert f"{RELEASE}+local" == version(checkout / "lambda_fn")


def test_without_a_tag_too(checkout: Path) -> None:
    git(checkout, "init", "--quiet")
    commit(checkout)

    assert f"{RELEASE}+local" == version(checkout / "lambda_fn")


def test_a_tagged_commit_is_that_version(checkout: Path) -> None:
    """Commits after it and changed files are a local part: an index refuses such a version."""
    git(checkout, "init", "--quiet")
    commit(checkout)
    git(checkout, "tag", "v1.2.3")
    tagged = version(checkout / "lambda_fn")
    (checkout / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + "\n")
    changed = version(checkout / "lambda_fn")
    commit(checkout)
    after = version(checkout / "lambda_fn")

    assert "1.2.3" == tagged
    assert re.fullmatch(r"1\.2\.3\+0\.g[0-9a-f]+\.dirty", changed)
    assert re.fullmatch(r"1\.2\.3\+1\.g[0-9a-f]+", after)


def test_other_tags_are_no_versions(checkout: Path) -> None:
    git(checkout, "init", "--quiet")
    commit(checkout)
    git(checkout, "tag", "version-one")
    git(checkout, "tag", "v-next")

    assert f"{RELEASE}+local" == version(checkout / "lambda_fn")


def test_the_tags_of_a_repository_around_an_archive_do_not_count(checkout: Path) -> None:
    git(checkout.parent, "init", "--quiet")
    commit(checkout.parent)
    git(checkout.parent, "tag", "v9.9.9")

    assert f"{RELEASE}+local" == version(checkout / "lambda_fn")


def test_the_environment_goes_before_all(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build of an image has no git, but its release has a version."""
    monkeypatch.setenv("PACKAGE_VERSION", "4.5.6")

    assert "4.5.6" == version(checkout / "lambda_fn")


# -- metadata ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("[a](docs/a.md)", "[a](BASE/docs/a.md)"),
        ("[a](docs/a.md#part)", "[a](BASE/docs/a.md#part)"),
        ("![a](docs/a.png)", "![a](BASE/docs/a.png)"),
        ("[a](https://example.com/a)", "[a](https://example.com/a)"),
        ("[a](#part)", "[a](#part)"),
        ("f(a)[b](c)", "f(a)[b](BASE/c)"),
    ],
)
def test_links_of_the_readme_work_on_an_index(link: str, becomes: str) -> None:
    assert becomes == with_absolute_links(link, "BASE/")


@pytest.mark.parametrize("folder", PROJECTS, ids=["bridge", "lambda_fn"])
def test_metadata_is_whole(folder: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]

    assert {"Source", "Documentation", "Changelog", "Issues"} <= project["urls"].keys()
    assert project["authors"]
    assert "Typing :: Typed" in project["classifiers"]
    assert (ROOT / "LICENSE").read_bytes() == (folder / "LICENSE").read_bytes()
    assert (ROOT / "bridge" / "py.typed").exists()
    assert (ROOT / "lambda_fn" / "py.typed").exists()


# -- building and installing -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels and the sdists of both packages. The wheels are built from the sdists."""
    out = tmp_path_factory.mktemp("dist")
    for folder in PROJECTS:
        run(sys.executable, "-m", "build", "--quiet", "--no-isolation", "--outdir", out, folder, cwd=ROOT)
    return out


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The programs of an environment as `make run` makes it."""
    folder = tmp_path_factory.mktemp("run") / "venv"
    run("make", f"VENV={folder}", f"PYTHON={sys.executable}", f"{folder}/.runs", cwd=ROOT)
    yield folder / "bin"
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.skipif(not TWINE.exists(), reason="twine is not there: bash .ci/tools installs it")
def test_wheels_and_sdists_are_fit_for_an_index(built: Path) -> None:
    files = sorted(built.iterdir())

    assert 4 == len(files)
    run(TWINE, "check", "--strict", *files, cwd=built)


@pytest.mark.slow
def test_an_archive_of_the_repository_builds(tmp_path: Path) -> None:
    """Without git it has the version of the last release, and `local`."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is an archive")
    git(ROOT, "archive", "--output", str(tmp_path / "a.tar"), "HEAD")
    with tarfile.open(tmp_path / "a.tar") as archive:
        archive.extractall(tmp_path / "a", filter="data")
    run(sys.executable, "-m", "build", "-q", "--no-isolation", "-w", "-o", tmp_path, tmp_path / "a", cwd=tmp_path)

    assert [f"grpc_lambda_bridge-{RELEASE}+local-py3-none-any.whl"] == [file.name for file in tmp_path.glob("*.whl")]


@pytest.mark.slow
@pytest.mark.full(part="packaging")
def test_make_run_installs_only_what_running_needs(environment: Path) -> None:
    """The checkout itself is installed, so that changes of the code count."""
    names = {path.name for path in (environment.parent / "lib").glob("python3*/site-packages/*")}

    assert {"uvloop", "botocore"} <= names
    assert not {"mypy", "hypothesis", "pytest", "ruff"} & names
    where = "import bridge; print(bridge.__file__)"
    assert f"{ROOT}/bridge/__init__.py\n" == run(environment / "python", "-c", where, cwd=Path("/"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.full(part="packaging")
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_both_packages_install_side_by_side_and_run(environment: Path, built: Path, tmp_path: Path, kind: str) -> None:
    """A local function is called through the installed bridge. Elsewhere lambda_fn is that of its own package."""
    files = sorted(built.glob(kind))
    pip = (sys.executable, "-m", "pip", "--python", environment / "python", "--disable-pip-version-check")
    run(*pip, "install", "-q", "--force-reinstall", "--no-deps", "--no-build-isolation", *files, cwd=tmp_path)
    run(*pip, "check", cwd=tmp_path)
    config = {
        "services": {"helloworld.Greeter": "local:greeter"},
        "functions": {"greeter": {"handler": "lambda_fn.examples.greeter.handler", "timeout": "20s"}},
    }
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(config))
    bridge = environment / "grpc-lambda-bridge"

    method = "helloworld.Greeter/SayHello"
    assert "Hello, you!" in run(bridge, "call", "--target", "local:greeter", method, '{"name": "you"}', cwd=tmp_path)
    shown = run(bridge, "--version", cwd=tmp_path).strip()
    asked = "import lambda_fn; from lambda_fn import LambdaServer; print(lambda_fn.__version__, lambda_fn.__file__)"
    told, _, place = run(environment / "python", "-c", asked, cwd=tmp_path).strip().partition(" ")
    assert shown == told
    assert str(environment.parent) in place
