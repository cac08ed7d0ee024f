"""Which files of a function's folder are packed, and what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.packaging import own_files
from bridge.packaging.archive import write_zip
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.marks import DOCKERFILE_MARK
from bridge.packaging.own_files import OwnFiles, find_installed_files, find_own_files
from tests.support.folders import filled


class Silent:
    """Progress that nobody sees."""

    def begin(self, what: str) -> None:
        pass

    def advance(self, done: int, whole: int) -> None:
        pass


def found(folder: Path, *, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> set[str]:
    return set(find_own_files(folder, include=include, exclude=exclude).files)


def refused(folder: Path, *, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> str:
    with pytest.raises(PackagingFailed) as caught:
        find_own_files(folder, include=include, exclude=exclude)
    return str(caught.value)


# -- ignored, generated, included, excluded ----------------------------------------------------------------------------


def test_gitignore_is_honoured_and_generated_code_comes_all_the_same(tmp_path: Path) -> None:
    """Also that in an ignored folder, with the __init__.py of its packages."""
    filled(
        tmp_path,
        {
            ".gitignore": "*.log\n/data/\n*_pb2*.py\ngen/\nindex_pb.js\n*.pb.go\n",
            "app.py": "",
            "app.log": "",
            "data/large.bin": "",
            "data/notes/__init__.py": "",
            "orders_pb2.py": "",
            "orders_pb2_grpc.py": "",
            "gen/__init__.py": "",
            "gen/acme/__init__.py": "",
            "gen/acme/v1/money_pb2.py": "",
            "gen/acme/v1/readme.txt": "",
            "index_pb.js": "",
            "orders.pb.go": "",
        },
    )

    assert {
        "app.py",
        "orders_pb2.py",
        "orders_pb2_grpc.py",
        "gen/__init__.py",
        "gen/acme/__init__.py",
        "gen/acme/v1/money_pb2.py",
        "index_pb.js",
        "orders.pb.go",
    } == found(tmp_path)


def test_inner_gitignores_and_those_of_the_repository_count(tmp_path: Path) -> None:
    """What a negation takes back is packed. The rules stand with their files."""
    (tmp_path / ".git").mkdir()
    filled(
        tmp_path,
        {
            ".gitignore": "*.bin\n",
            "functions/orders/app.py": "",
            "functions/orders/a.bin": "",
            "functions/orders/models/.gitignore": "!keep.bin\n*.txt\n",
            "functions/orders/models/keep.bin": "",
            "functions/orders/models/a.txt": "",
        },
    )
    folder = tmp_path / "functions/orders"
    own = find_own_files(folder)

    assert {"app.py", "models/keep.bin"} == set(own.files)
    assert f"the rule '*.bin' in {tmp_path}/.gitignore:1 ignores it" == own.why_missing("a.bin")
    assert f"the rule '*.txt' in {folder}/models/.gitignore:2 ignores it" == own.why_missing("models/a.txt")
    assert own.why_missing("app.py") is None


def test_what_include_names_is_packed_although_it_is_ignored(tmp_path: Path) -> None:
    """A file, a folder, or a pattern, with what a later pattern takes back."""
    filled(
        tmp_path,
        {
            ".gitignore": "data/\n*.bin\nmodels/\n",
            "app.py": "",
            "data/one.json": "",
            "data/two.json": "",
            "data/deep/three.json": "",
            "a.bin": "",
            "models/x/y.bin": "",
            "models/x/z.tmp": "",
        },
    )

    assert {"app.py", "data/one.json"} == found(tmp_path, include=["data/one.json"])
    assert {"app.py", "models/x/y.bin", "models/x/z.tmp"} == found(tmp_path, include=["models/"])
    assert {"app.py", "a.bin", "models/x/y.bin"} == found(tmp_path, include=["*.bin"])
    assert {"app.py", "data/two.json", "data/deep/three.json"} == found(
        tmp_path, include=["data/**/*.json", "!data/one.json"]
    )


def test_exclude_goes_before_all(tmp_path: Path) -> None:
    filled(tmp_path, {"app.py": "", "orders_pb2.py": "", "tests/test_app.py": "", "docs/a.md": "", "docs/b.txt": ""})
    own = find_own_files(tmp_path, include=["*.md"], exclude=["tests/", "*.md", "orders_pb2.py"])

    assert {"app.py", "docs/b.txt"} == set(own.files)
    assert "package.exclude has 'tests/'" == own.why_missing("tests/test_app.py")


def test_history_caches_leftovers_and_former_packages_are_never_packed(tmp_path: Path) -> None:
    """Neither by include. A zip that somebody else made is data."""
    filled(
        tmp_path,
        {
            "app.py": "",
            ".git/config": "[remote]",
            ".gitignore": "",
            "sub/.git": "gitdir: ../x",
            "__pycache__/app.cpython-311.pyc": "",
            "old.pyc": "",
            ".mypy_cache/a.json": "",
            "target/CACHEDIR.TAG": "",
            "target/debug/app": "",
            ".DS_Store": "",
            ".aws-sam/build/app.py": "",
            "data.zip": b"PK\5\6" + bytes(18),
            "dist/context/Dockerfile": DOCKERFILE_MARK,
            "dist/context/task/app.py": "",
            ".orders.zip.00.partial": "half",
            "Dockerfile": "FROM scratch",
        },
    )
    write_zip({}, tmp_path / "dist/orders.zip", Silent())

    assert {"app.py", "data.zip", "Dockerfile"} == found(tmp_path, include=["*"])


def test_files_of_the_bridge_are_left_out(tmp_path: Path) -> None:
    filled(tmp_path, {"app.py": "", "bridge.yaml": ""})

    assert {"app.py"} == set(find_own_files(tmp_path, without=frozenset({tmp_path / "bridge.yaml"})).files)
    (tmp_path / "link").symlink_to(tmp_path)
    by_link = frozenset({tmp_path / "link/bridge.yaml"})
    assert {"app.py"} == set(find_own_files(tmp_path, without=by_link, exclude=["link"]).files)


def test_programs_stay_programs(tmp_path: Path) -> None:
    filled(tmp_path, {"bin/server": "", "app.py": ""})
    (tmp_path / "bin/server").chmod(0o700)
    files = find_own_files(tmp_path).files

    assert (True, False) == (files["bin/server"].is_program, files["app.py"].is_program)


# -- secrets and virtual environments ----------------------------------------------------------------------------------

SECRETS = [
    ".env",
    ".env.production",
    "prod.env",
    ".ENV",
    "config/.env",
    "server.pem",
    "tls/server.key",
    "api.example.com.key",
    "example.com.pem",
    "template.p12",
    "id_rsa",
    "id_ed25519",
    "credentials",
    ".aws/config",
    ".ssh/known_hosts",
    ".netrc",
    ".git-credentials",
    "terraform.tfstate",
    "store.p12",
    "secrets.yaml",
    "service-account-prod.json",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    """The message names it and both ways out. A pattern with a wildcard is no purpose."""
    filled(tmp_path, {"app.py": "", name: "hunter2"})
    message = refused(tmp_path, include=["**", "*.pem", ".env*"])

    assert name.partition("/")[0] in message
    assert "holds secrets" in message
    assert "exclude" in message
    assert "include" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("name", [".env", "tls/server.pem", "id_rsa"])
def test_a_secret_may_be_left_out_or_packed_on_purpose(tmp_path: Path, name: str) -> None:
    filled(tmp_path, {"app.py": "", name: "hunter2"})

    assert {"app.py"} == found(tmp_path, exclude=[name])
    assert {"app.py", name} == found(tmp_path, include=[name])
    (tmp_path / ".gitignore").write_text(f"{name}\n")
    assert {"app.py"} == found(tmp_path)
    assert {"app.py", name} == found(tmp_path, include=[name])


def test_a_secret_in_an_included_folder_is_refused_all_the_same(tmp_path: Path) -> None:
    filled(tmp_path, {"app.py": "", ".gitignore": "config/\n", "config/.env": "", "config/a.yaml": ""})

    assert "config/.env" in refused(tmp_path, include=["config/"])


def test_settings_of_package_managers_are_secrets_if_they_have_a_token(tmp_path: Path) -> None:
    filled(tmp_path, {"app.py": "", ".npmrc": "registry=https://example.com/\n"})

    assert {"app.py", ".npmrc"} == found(tmp_path)
    (tmp_path / ".npmrc").write_text("//example.com/:_authToken=hunter2\n")
    assert ".npmrc" in refused(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        ".env.example",
        "server.key.example",
        "secrets.dist.yaml",
        "credentials.py",
        "environment.py",
        "key.txt",
        "public.pub",
    ],
)
def test_names_that_only_look_like_secrets_are_packed(tmp_path: Path, name: str) -> None:
    filled(tmp_path, {name: ""})

    assert {name} == found(tmp_path)


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "conda-meta/history"])
def test_a_virtual_environment_is_refused_unless_it_is_ignored(tmp_path: Path, mark: str) -> None:
    """By what it is, whatever its name. Generated code in one is not the function's."""
    filled(tmp_path, {"app.py": "", f"stuff/{mark}": "", "stuff/lib/site-packages/a_pb2.py": ""})

    assert "stuff/ is a virtual environment" in refused(tmp_path)
    assert {"app.py"} == found(tmp_path, exclude=["stuff"])
    (tmp_path / ".gitignore").write_text("stuff\n")
    assert {"app.py"} == found(tmp_path)


def test_a_virtual_environment_is_no_function(tmp_path: Path) -> None:
    filled(tmp_path, {"pyvenv.cfg": ""})

    assert "is a virtual environment, not a function" in refused(tmp_path)


# -- links -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return filled(tmp_path / "outside", {"shared.py": "", "secret.txt": "hunter2"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path / "function", {"app.py": "APP", "lib/code.py": "CODE"})


@pytest.mark.parametrize("target", ["../outside/shared.py", "../outside", "..", "/etc", "lib/../../outside"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, outside: Path, target: str) -> None:
    (folder / "link").symlink_to(target)

    assert "link is a link out of the folder" in refused(folder)
    assert {"app.py", "lib/code.py"} == found(folder, exclude=["link"])


def test_a_chain_of_links_that_leaves_the_folder_is_refused(folder: Path, outside: Path) -> None:
    """Each link alone stays in it, or so it seems."""
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("lib/three")
    (folder / "lib/three").symlink_to(outside)

    assert 3 == refused(folder).count("is a link out of the folder")


def test_an_ignored_link_out_of_the_folder_is_nobodys_business(folder: Path, outside: Path) -> None:
    (folder / "link").symlink_to(outside)
    (folder / ".gitignore").write_text("link\n")

    assert {"app.py", "lib/code.py"} == found(folder)


@pytest.mark.parametrize("is_absolute", [False, True])
def test_links_in_the_folder_become_what_they_lead_to(folder: Path, is_absolute: bool) -> None:
    (folder / "other.py").symlink_to(folder / "app.py" if is_absolute else "app.py")
    (folder / "again").symlink_to(folder / "lib" if is_absolute else "lib")
    own = find_own_files(folder)

    assert {"app.py", "lib/code.py", "other.py", "again/code.py"} == set(own.files)
    assert "CODE" == own.files["again/code.py"].source.read_text()
    assert not own.files["other.py"].source.is_symlink()


def test_a_function_whose_folder_is_reached_by_a_link_is_found(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(folder)
    (folder / "inner").symlink_to(folder / "lib")

    assert {"app.py", "lib/code.py", "inner/code.py"} == found(tmp_path / "current")


def test_loops_of_links_end(folder: Path) -> None:
    """To itself, to each other, to a folder around, and to nothing. Each one is told."""
    (folder / "self").symlink_to("self")
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    (folder / "lib/up").symlink_to("..")
    (folder / "lib/here").symlink_to(".")
    (folder / "nowhere").symlink_to("gone")
    own = find_own_files(folder)

    assert {"app.py", "lib/code.py"} == set(own.files)
    assert {"self", "a", "b", "lib/up", "lib/here", "nowhere"} == {note.partition(" ")[0] for note in own.notes}


def test_folders_that_link_to_each_other_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten folders with links to all others would make ten factorial paths."""
    for name in range(10):
        filled(tmp_path, {f"{name}/code.py": ""})
        for other in range(10):
            if other != name:
                (tmp_path / f"{name}/to{other}").symlink_to(f"../{other}")
    monkeypatch.setattr(own_files, "_MAX_FILES", 500)

    assert "more than 500 files" in refused(tmp_path)


@pytest.mark.parametrize("target", [".env", "keys/server.pem", ".aws/config", ".git/config"])
def test_a_link_does_not_bring_in_what_is_never_packed(folder: Path, target: str) -> None:
    """Under an innocent name, while the file itself is ignored."""
    filled(folder, {target: "hunter2", ".gitignore": f"{target}\n"})
    (folder / "settings.txt").symlink_to(target)

    if target.startswith(".git/"):
        assert {"app.py", "lib/code.py"} == found(folder)
    else:
        assert f"settings.txt: it is a link to {target}" in refused(folder)


def test_a_link_to_a_virtual_environment_is_refused(folder: Path) -> None:
    filled(folder, {"hidden/pyvenv.cfg": "", ".gitignore": "hidden\n"})
    (folder / "modules").symlink_to("hidden")

    assert "modules/ is a virtual environment" in refused(folder)


# -- odd files ---------------------------------------------------------------------------------------------------------


def test_what_is_no_file_is_left_out_and_told(folder: Path) -> None:
    """Opening a pipe would wait forever."""
    os.mkfifo(folder / "pipe")
    own = find_own_files(folder)

    assert {"app.py", "lib/code.py"} == set(own.files)
    assert ["pipe is left out: it is no regular file"] == own.notes


def test_a_name_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.py")).touch()

    assert r"b'caf\xe9.py' has a name that is not UTF-8" in refused(folder)


def test_many_refusals_are_shown_in_part(folder: Path) -> None:
    filled(folder, {f"{number}.pem": "" for number in range(30)})

    assert "and 20 more" in refused(folder)


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "gone")


def test_an_empty_folder_is_no_package(tmp_path: Path) -> None:
    assert OwnFiles() == find_own_files(tmp_path)


# -- folders of dependencies -------------------------------------------------------------------------------------------


def test_in_dependencies_neither_gitignore_nor_names_count(tmp_path: Path) -> None:
    filled(tmp_path, {"a/.gitignore": "dist\n", "a/dist/index.js": "", "b/cert.pem": "", "b/.env": "", ".bin/a": ""})

    assert {"a/dist/index.js", "b/cert.pem", "b/.env"} == set(find_installed_files(tmp_path, exclude=[".bin"]))


def test_links_out_of_dependencies_are_refused(folder: Path, outside: Path) -> None:
    (folder / "shared").symlink_to(outside)
    with pytest.raises(PackagingFailed, match="shared is a link out of the folder"):
        find_installed_files(folder, exclude=[])


@pytest.mark.skipif(shutil.which("mkfifo") is None or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "app.py").chmod(0)

    assert "app.py cannot be read" in refused(folder)
