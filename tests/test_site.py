"""The site that `make docs` builds: whole, and readable offline, on a phone too."""

import json
import re
import subprocess
import sys
from html import unescape
from importlib import import_module
from pathlib import Path

import pytest
from tests.browser import visit

ROOT = Path(__file__).parents[1]
READ = """
<iframe width="360" height="800"></iframe><pre></pre><script>
const place = document.querySelector("iframe"), seen = {};
const settled = async (condition) => { while (!condition()) await new Promise((then) => setTimeout(then, 50)); };
(async () => {
  for (const page of PAGES) {
    await new Promise((then) => { place.onload = then; place.src = page; });
    const frame = place.contentWindow, shown = frame.document;
    if (page.includes("?")) await settled(() => /finished/.test(shown.querySelector(".search-summary")?.textContent));
    const scrolls = (it) => it.tagName != "ARTICLE"
      && (/auto|scroll/.test(frame.getComputedStyle(it).overflowX) || scrolls(it.parentElement));
    seen[page] = {
      cut: [...shown.querySelectorAll("article *")]
        .filter((it) => it.getBoundingClientRect().right > frame.innerWidth && !scrolls(it.parentElement))
        .map((it) => it.outerHTML.slice(0, 200)),
      broken: [...shown.images].filter((image) => !image.naturalWidth).map((image) => image.src),
      asked: frame.performance.getEntriesByType("resource").map((entry) => entry.name)
        .filter((name) => !name.startsWith("file:")),
      found: [...shown.querySelectorAll("#search-results li a")].map((link) => link.href),
    };
  }
  document.querySelector("pre").textContent = JSON.stringify(seen);
})();
</script>
"""
"""Reads pages one after the other on a phone: what is cut off there, images that are none, what other places are asked
for, and what a search finds."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the site, and what there was to complain about."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-qE", "-c", "docs", "-d", str(out / "read"), ".", str(out / "html")]
    return out / "html", subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stderr


def test_making_it_again_removes_nothing() -> None:
    said = subprocess.run(["make", "--dry-run", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (build,) = [line for line in said.splitlines() if "sphinx" in line]
    assert build.endswith(" . build/site")
    assert not [line for line in said.splitlines() if "rm " in line and "build" in line]


@pytest.mark.slow
def test_every_page_is_in_the_navigation_and_every_link_leads_somewhere(built: tuple[Path, str]) -> None:
    assert built[1] == "", "`make docs` says what is wrong; the navigation is docs/index.rst"


@pytest.mark.slow
def test_every_public_function_and_class_of_every_package_is_in_the_api(built: tuple[Path, str]) -> None:
    pages = sorted((built[0] / "docs" / "api").glob("*.html"))
    shown = {name for page in pages for name in re.findall(r'id="deq_[a-z_.]+\.(\w+)"', page.read_text())}
    things = {name: thing for page in pages for name, thing in vars(import_module(page.stem)).items()}
    assert {name for name, thing in things.items() if callable(thing) and name[0] != "_"} <= shown


@pytest.mark.slow
def test_pages_fit_a_phone_and_are_read_and_searched_without_any_other_machine(built: tuple[Path, str]) -> None:
    site, search = built[0], "html/search.html?q=torchdeq"
    paths = [path.relative_to(site) for path in sorted(site.rglob("*.html")) if path != site / "index.html"]
    pages = [f"html/{path}" for path in paths if path.parts[0] != "_modules"]
    reader = site.parent / "reader.html"
    reader.write_text(READ.replace("PAGES", json.dumps([*pages, search])))
    document, console = visit(reader.as_uri(), site.parent / "profile")
    assert console == []
    seen = json.loads(unescape(document.partition("<pre>")[2].partition("</pre>")[0]))
    for fault in ("cut", "broken", "asked"):
        assert {page: of[fault] for page, of in seen.items() if of[fault]} == {}, fault
    assert [link for link in seen[search]["found"] if link.endswith("/docs/coming-from-torchdeq.html")]
