"""What both packages are built with: their version, and their README as an index shows it.

The version is that of the git tag `vX.Y.Z`. Commits after the tag, and changes that are not committed, are a local part
of it. Without git or without a tag, as in an archive or in the build of an image, it is the last release with `+local`.
`PACKAGE_VERSION` in the environment goes before all of that.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_FOLDER = Path(__file__).resolve().parent
_PROJECT = 'name = "grpc-lambda-bridge"'
_last_release = re.compile(r'^_LAST_RELEASE = "(.+)"$', re.MULTILINE)
_described = re.compile(
    r"v(?P<release>\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)-(?P<since>\d+)-g(?P<commit>[0-9a-f]+)(?P<dirty>-dirty)?"
)
_link = re.compile(r"(?P<before>\]\()(?P<target>(?!https?://|#|mailto:)[^)\s]+)(?=\))")


class VersionAndReadme(MetadataHookInterface):
    """Fills in `version` and `readme`. An sdist has both already, so builds from it do not come here."""

    def update(self, metadata: dict[str, Any]) -> None:
        if "version" not in metadata:
            metadata["version"] = version()
        if "readme" not in metadata:
            text = Path(self.root, "README.md").read_text(encoding="utf-8")
            urls = metadata.get("urls", {})
            folder = self.config.get("folder", "")
            metadata["readme"] = {
                "content-type": "text/markdown",
                "text": with_absolute_links(text, f"{urls['Source']}/blob/main/{folder}"),
            }


def version(folder: Path = _FOLDER) -> str:
    """Return the version of the package whose `lambda_fn` folder this is."""
    given = os.environ.get("PACKAGE_VERSION")
    if given:
        return given
    found = _described.fullmatch(_describe(folder))
    if found is None:
        return f"{last_release(folder)}+local"
    if found["since"] == "0" and found["dirty"] is None:
        return found["release"]
    return f"{found['release']}+{found['since']}.g{found['commit']}" + (".dirty" if found["dirty"] else "")


def last_release(folder: Path = _FOLDER) -> str:
    """Return the version that the code names as its last release."""
    found = _last_release.search((folder / "__init__.py").read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def _describe(folder: Path) -> str:
    """Return what git says of our own repository; an archive may lie in another one, whose tags are not ours."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    project = Path(top, "pyproject.toml")
    if not top or not project.is_file() or _PROJECT not in project.read_text(encoding="utf-8"):
        return ""
    if Path(top, "lambda_fn").resolve() != folder.resolve():
        return ""
    return _git(folder, "describe", "--tags", "--long", "--dirty", "--match", "v[0-9]*")


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - words of our own
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def with_absolute_links(text: str, base: str) -> str:
    """Return Markdown whose links to files of the repository work on an index, too."""
    return _link.sub(lambda found: f"{found['before']}{base}{found['target']}", text)
