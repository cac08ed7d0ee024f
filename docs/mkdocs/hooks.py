"""MkDocs' hooks: pages from outside docs/, links that work on a code host and on the site, and the list of decisions.

A link in a Markdown file is relative to the file, as code hosts read it. On the site, pages stand elsewhere, and files
such as Dockerfiles are not there at all. So each link that leads out of docs/ becomes a link to the page of the site,
or else to the file on the code host. A link that leads nowhere is left as it is, and `mkdocs build --strict` names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

OUTSIDE = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/results/results.md": "benchmark-results.md",
    "benchmarks/results/results.svg": "results.svg",
    "docs/mkdocs/iframe-worker.js": "assets/iframe-worker.js",
    "docs/mkdocs/style.css": "assets/site.css",
    "lambda_fn/README.md": "lambda-fn.md",
}
"""Files of the repository that the site has elsewhere: from the path in the repository to that on the site."""
SOURCES = {site: source for source, site in OUTSIDE.items()}

DECISIONS = "docs/decisions"
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<before>\]\()(?P<path>(?![a-z]+:|#)[^)#\s]+)(?P<rest>(?:#[^)\s]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of decisions into the navigation, where mkdocs.yml says `decisions/*`."""
    pages = [f"decisions/{page.name}" for page in sorted((ROOT / DECISIONS).glob("*.md"))]
    config.nav = _with_decisions(config.nav, ["decisions/index.md", *pages])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/ and the list of decisions. A page of docs/ comes before one from outside."""
    for source, site in OUTSIDE.items():
        if files.get_file_from_path(site) is None:
            files.append(File.generated(config, site, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, "decisions/index.md", content="\n".join(_list_of_decisions())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page that the site does not have in the same place."""
    site = page.file.src_uri
    source = SOURCES.get(site) if page.file.generated_by else None
    at = Path(source or f"docs/{site}")
    repository = str(config.repo_url).rstrip("/")

    def rewritten(link: re.Match[str]) -> str:
        path = os.path.normpath(at.parent / link["path"])
        known = OUTSIDE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
        if known and files.get_file_from_path(known) is not None:
            return link["before"] + os.path.relpath(known, Path(site).parent) + link["rest"]
        found = ROOT / path
        if not found.exists():
            return link[0]
        return f"{link['before']}{repository}/{'tree' if found.is_dir() else 'blob'}/main/{path}{link['rest']}"

    return "".join(part if is_code else LINK.sub(rewritten, part) for is_code, part in _parts(markdown))


def on_page_context(context: dict[str, Any], page: Page, **_: object) -> dict[str, Any]:
    """Let the button that shows a page's source lead to the file, also for pages from outside docs/."""
    if source := SOURCES.get(page.file.src_uri) if page.file.generated_by else None:
        page.edit_url = f"{context['config'].repo_url}/blob/main/{source}"
    return context


def _with_decisions(nav: Any, pages: list[str]) -> Any:
    if isinstance(nav, list):
        return [_with_decisions(each, pages) for each in nav]
    if isinstance(nav, dict):
        return {title: pages if item == "decisions/*" else _with_decisions(item, pages) for title, item in nav.items()}
    return nav


def _list_of_decisions() -> Iterator[str]:
    yield "# Decisions\n"
    yield "Each page has one larger choice: the question, the choice, its price, and when to look at it again.\n"
    for page in sorted((ROOT / DECISIONS).glob("*.md")):
        title = page.read_text().partition("\n")[0].removeprefix("# ")
        yield f"{int(page.name[:3])}. [{title}]({page.name})"


def _parts(markdown: str) -> Iterator[tuple[bool, str]]:
    """Yield the text in order: whether it is a block of code, and the text itself."""
    end = 0
    for fence in FENCE.finditer(markdown):
        yield False, markdown[end : fence.start()]
        yield True, fence[0]
        end = fence.end()
    yield False, markdown[end:]
