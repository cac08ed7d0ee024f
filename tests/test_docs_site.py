"""The documentation site: it builds, every link leads somewhere, and it needs no other host."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml

from lambda_fn import LambdaServer, forward
from lambda_fn.testing import channel
from tests.support.clients import node_program

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MKDOCS = ROOT / ".cache" / "docs" / "bin" / "mkdocs"
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
"""Elements that load something by themselves, and the attribute that says what."""
LOADING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "manifest"}
URL_IN_CSS = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])([^"')]+)""")


@dataclass
class Page:
    """What one page of the site refers to."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.page.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.page.loads += URL_IN_CSS.findall(values.get("style", ""))
        if tag in LOADED and LOADED[tag] in values:
            self.page.loads.append(values[LOADED[tag]])
        self.page.loads += [each.split()[0] for each in values.get("srcset", "").split(",") if each.strip()]
        if tag == "link" and LOADING_LINKS & set(values.get("rel", "").split()):
            self.page.loads.append(values.get("href", ""))
        if tag == "a" and "href" in values:
            self.page.links.append(values["href"])

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.page.loads += URL_IN_CSS.findall(data)


def read(html: str) -> Page:
    reader = Reader()
    reader.feed(html)
    return reader.page


def is_foreign(address: str) -> bool:
    """Whether the browser would ask another host."""
    return bool(urlsplit(address).netloc)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Warnings, such as links that lead nowhere, make the build fail."""
    if not MKDOCS.exists():
        pytest.skip("MkDocs is not installed: make docs installs it, as .ci/tools does other tools")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path: read(path.read_text()) for path in sorted(site.rglob("*.html"))}
    assert len(found) > 40
    return found


def test_no_page_loads_anything_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    """No fonts, scripts, pictures or styles: neither in pages nor in style sheets."""
    styles = {path: URL_IN_CSS.findall(path.read_text()) for path in site.rglob("*.css")}
    loads = {path: page.loads for path, page in pages.items()} | styles

    assert any(any(name.endswith(".css") for name in page.loads) for page in pages.values())
    assert {} == {path: found for path, names in loads.items() if (found := [n for n in names if is_foreign(n)])}


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://example.com/a.js"></script>',
        '<img src="//example.com/a.png">',
        '<img srcset="a.png 1x, https://example.com/b.png 2x">',
        '<link rel="preconnect" href="https://example.com">',
        '<link rel="stylesheet" href="http://example.com/a.css">',
        '<style>@import "https://example.com/a.css";</style>',
        "<style>a { background: url(//example.com/a.png) }</style>",
        '<p style="background: url(https://example.com/a.png)">',
    ],
)
def test_what_comes_from_another_host_is_seen(html: str) -> None:
    assert [True] == [is_foreign(name) for name in read(html).loads if name != "a.png"]


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    """To a file that is there, and to an anchor that its page has."""
    lost = [
        f"{path.relative_to(site)}: {link}"
        for path, page in pages.items()
        if path.name != "404.html"  # its links begin at the root of a server
        for link in page.links
        if not urlsplit(link).scheme and not leads_somewhere(link, path, pages)
    ]

    assert [] == lost


def leads_somewhere(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    address, anchor = urldefrag(unquote(link))
    target = (path.parent / address).resolve() if address else path
    target = target / "index.html" if target.is_dir() else target
    if target not in pages:
        return target.is_file()
    return not anchor or anchor.startswith("__") or anchor in pages[target].anchors


def test_links_to_the_code_host_name_files_of_the_repository(pages: dict[Path, Page]) -> None:
    links = {link for page in pages.values() for link in page.links}
    host = re.compile(r"https://github\.com/grpc-lambda-bridge/grpc-lambda-bridge/(?:blob|tree)/main/([^#]+)")
    named = [found[1] for link in links if (found := host.match(link))]

    assert "config.example.yaml" in named
    assert [] == [name for name in named if not (ROOT / unquote(name)).exists()]


@pytest.mark.parametrize("function", [LambdaServer, forward, channel], ids=lambda function: function.__name__)
def test_the_api_page_describes_every_argument(site: Path, function: Callable[..., Any]) -> None:
    """As a row of a table, made from the docstring."""
    page = (site / "api.html").read_text()
    rows = set(re.findall(r'<tr class="doc-section-item">\s*<td>\s*<code>(\w+)</code>', page))

    assert set() == set(inspect.signature(function).parameters) - rows


# -- what only a browser shows -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(site: Path) -> dict[str, Any]:
    """What headless Chromium sees of every page, from the file system and without a network."""
    program = node_program("site.js", folder=ROOT / "tests" / "crossing" / "browser")
    names = sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if path.name != "404.html")
    done = subprocess.run(
        [*program, site, "half_close", *names], capture_output=True, text=True, timeout=280, check=False
    )
    assert 0 == done.returncode, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


@pytest.mark.clients
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_pages_ask_no_other_host_and_have_no_errors(seen: dict[str, Any]) -> None:
    assert ([], []) == (seen["foreign"], seen["problems"])


@pytest.mark.clients
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_search_works_without_a_server(seen: dict[str, Any]) -> None:
    """From the folder alone. A key of the configuration is found."""
    found = {Path(urlsplit(link).path).name for link in seen["found"]}

    assert {"testing.html", "interop.html"} <= found


@pytest.mark.clients
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_page_is_wider_than_a_phone(seen: dict[str, Any]) -> None:
    assert {} == seen["wider"]


@pytest.mark.clients
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_pages_follow_the_dark_mode_and_stay_legible(seen: dict[str, Any]) -> None:
    """Every text has a contrast of at least 4.5 to 1 in both."""
    assert seen["backs"]["light"] != seen["backs"]["dark"]
    assert {} == seen["pale"]


# -- without MkDocs ----------------------------------------------------------------------------------------------------


class AnyTag(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tags only MkDocs knows."""


AnyTag.add_multi_constructor("", lambda loader, suffix, node: suffix)


def navigation(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for each in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from navigation(each)


def test_every_page_has_one_place_in_the_navigation() -> None:
    """A new page of docs/ needs a line under `nav` in mkdocs.yml. Decisions are found by themselves."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), AnyTag)
    named = sorted(navigation(config["nav"]))
    here = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"mkdocs"}
    here = {name for name in here if not name.startswith("decisions/")}

    assert len(set(named)) == len(named)
    assert set() == here - set(named)
    assert set() == set(named) - here - set(site_pages()) - {"decisions/*"}


def site_pages() -> set[str]:
    """The pages that come from outside docs/."""
    text = (DOCS / "mkdocs" / "hooks.py").read_text()
    return set(re.findall(r'^    "[\w./]+\.md": "([\w./-]+)",$', text, re.MULTILINE))
