"""Checks that links and commands in the documents exist, and that the site builds and works."""

import ast
import functools
import http.server
import json
import re
import runpy
import subprocess
import sys
import threading
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from imgpipe.models import errors
from imgpipe.pipeline.configuration.config import all_fields
from imgpipe.pipeline.json_formats import FORMATS
from imgpipe.pipeline.published.exports import NotEqual
from imgpipe.serving.server.metrics import Metrics
from tests import browser, python_program
from tests.command import commands
from tests.conftest import REPOSITORY
from tests.document_blocks import DOCS, DOCUMENTS, name_of

#: Elements that load something, each with the attribute that names what is loaded.
_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class _Loads(HTMLParser):
    """Collects the addresses that a page loads: scripts, styles, images and frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag in _LOADED and given.get("rel") != "canonical":
            self.found.append(given.get(_LOADED[tag]) or "")


def _nav(entries: object) -> set[str]:
    """Return the pages of the navigation in mkdocs.yml."""
    if isinstance(entries, str):
        return {entries}
    values = entries.values() if isinstance(entries, dict) else entries
    return {page for one in values for page in _nav(one)}  # type: ignore[attr-defined]


def _pages() -> set[str]:
    text = (REPOSITORY / "mkdocs.yml").read_text("utf-8")
    return _nav(yaml.safe_load(text)["nav"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site.

    The build is strict: it fails for a dead link, a dead anchor or a page outside the navigation.
    """
    folder = tmp_path_factory.mktemp("site")
    command = (sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder)
    python_program.ran(*command, cwd=REPOSITORY, NO_MKDOCS_2_WARNING="1")
    return folder


@pytest.mark.slow
def test_the_site_has_every_page_and_loads_nothing_from_the_network(site: Path) -> None:
    built = {page for page in site.rglob("*.html") if page.name != "404.html"}
    assert {page.removesuffix(".md") for page in _pages()} == {
        str(page.relative_to(site).with_suffix("")) for page in built
    }
    for page in built:
        loads = _Loads()
        loads.feed(page.read_text("utf-8"))
        remote = [one for one in loads.found if urlsplit(one).netloc]
        assert loads.found and not remote, f"{page.name} loads {remote}"
    styles = (page.read_text("utf-8") for page in site.rglob("*.css"))
    assert not [one for style in styles for one in re.findall(r"url\([\"']?https?:[^)]*", style)]


@pytest.mark.slow
def test_the_reference_describes_all_commands_and_settings(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text("utf-8")
    assert not [name for name in commands() if f'id="{name.replace(" ", "-")}"' not in page]
    settings = (site / "reference" / "settings.html").read_text("utf-8")
    named = [*all_fields()]
    missing = [name for name in named if f'id="{name}"' not in settings]
    assert len(named) > 80 and not [one for one in missing if not one.startswith("beam.")]


@pytest.mark.slow
def test_the_reference_describes_all_exit_codes_json_fields_and_metrics(site: Path) -> None:
    codes = (site / "reference" / "exit-codes.html").read_text("utf-8")
    classes = (errors.ImgpipeError, errors.ConfigError, errors.DataRefused, errors.ResourceError)
    for code in {0, 130, 143, NotEqual.exit_code, *(one.exit_code for one in classes)}:
        assert f"<td><code>{code}</code></td>" in codes
    formats = (site / "reference" / "json.html").read_text("utf-8")
    assert not [name for name in FORMATS if f'id="{name.replace(" ", "-")}"' not in formats]
    fields = (
        "gate.threshold",
        "search_ended.reason",
        "files.warned[].path",
        "metrics.*.accuracy",
    )
    plain = formats.replace("<wbr>", "").replace("&#42;", "*")
    assert not [name for name in fields if f"{name}</code>" not in plain]
    metrics = (site / "reference" / "metrics.html").read_text("utf-8")
    registered = Metrics("").of_requests
    assert not [metric._name for metric in registered if metric._name not in metrics]


def test_the_pages_of_the_reference_are_those_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(DOCS / "hooks")
    runpy.run_path(str(DOCS / "hooks" / "reference.py"))["main"](tmp_path)
    for page in (DOCS / "reference").iterdir():
        new = (tmp_path / page.name).read_text("utf-8")
        assert page.read_text("utf-8") == new, f"{page.name} is old: run `make docs`"


def test_the_functions_on_the_path_of_one_image_exist() -> None:
    """Each row of the table names a file and functions or methods in it."""
    text = (DOCS / "design.md").read_text("utf-8")
    rows = re.findall(r"^\| [^|]*\| `([^`]+\.py)` \| (.+) \|$", text, flags=re.M)
    assert len(rows) > 30
    for file, named in rows:
        body = ast.parse((REPOSITORY / file).read_text("utf-8")).body
        found = {getattr(one, "name", "") for one in body}
        for one in body:
            if isinstance(one, ast.ClassDef):
                found |= {f"{one.name}.{getattr(part, 'name', '')}" for part in one.body}
        assert set(re.findall(r"`([^`]+)`", named)) <= found, file


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_and_commands_of_a_document_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text)
    targets = {link: (document.parent / link).resolve() for link in links}
    # The changelog of the site is the one of the repository.
    generated = {(DOCS / page).resolve() for page in ("index.md", "changelog.md")}
    assert not [link for link, to in targets.items() if not to.exists() and to not in generated]
    known = {" ".join(name.split()[:2]) for name in commands()}
    named = re.findall(r"`(imgpipe(?: [a-z]+)?)\b", text)
    assert {name for name in named if name.count(" ")} <= known
    if document == DOCUMENTS[0]:
        linked = set(re.findall(r"\(docs/([a-z/-]+\.md)\)", text))
        assert len(linked) > 5 and linked <= _pages(), "pages outside the navigation"


#: A figure that somebody measured: a decimal number, a share in percent, or a ratio.
_FIGURE = re.compile(r"\d+\.\d+|\d+(?= (?:%|×(?! \d)|times))")


def _quoted(document: Path) -> list[str]:
    """Return the sentences of a document that link to the benchmarks; of the course, its results.

    In the table of the course, the figures in bold are those of the benchmarks.
    """
    text = " ".join(document.read_text("utf-8").split())
    sentences = [one for one in re.split(r"(?<=[.:;]) ", text) if "benchmarks.md" in one]
    return sentences + (
        re.findall(r"\*\*([^*|]+)\*\*", text) if document.name == "course.md" else []
    )


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if _quoted(one)], ids=name_of)
def test_a_figure_of_the_benchmarks_is_quoted_as_it_stands_there(document: Path) -> None:
    """A figure has one home, docs/benchmarks.md; other documents quote it beside a link."""
    stand = set(_FIGURE.findall((DOCS / "benchmarks.md").read_text("utf-8")))
    for sentence in _quoted(document):
        words = re.sub(r"\]\([^)]*\)", "]", sentence)
        assert set(_FIGURE.findall(words)) <= stand, sentence


def _install_commands() -> dict[str, set[str]]:
    """Return the packages that documents and messages say to install, with where they say it."""
    found: dict[str, set[str]] = {}
    notebooks = [*DOCS.glob("*.ipynb")]
    for document in [*DOCUMENTS, *notebooks]:
        text = document.read_text("utf-8")
        for packages in re.findall(r"(?:^|`)pip install ((?!-)[^`#\n]+)", text, flags=re.M):
            found.setdefault(packages.strip().replace("'", ""), set()).add(name_of(document))
    return found


@pytest.mark.parametrize("document", [*DOCUMENTS, *sorted(DOCS.glob("*.ipynb"))], ids=name_of)
def test_packages_are_installed_by_the_pip_of_the_environment(document: Path) -> None:
    """`make demo` brings no uv into the terminal; the environment has a pip."""
    lines = document.read_text("utf-8").splitlines()
    assert not [line for line in lines if re.search(r"\buvx?\b (?:pip|sync|add|tool)", line)]


@pytest.mark.slow
def test_what_the_documents_install_replaces_no_package_of_imgpipe(tmp_path: Path) -> None:
    """Each `pip install` of the documents can be resolved, and leaves what imgpipe runs with."""
    pip = Path(sys.executable).with_name("pip")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {re.split(r"[<>=\[]", one)[0].lower() for one in project["dependencies"]}
    commands = {
        packages: where
        for packages, where in _install_commands().items()
        if not re.search(r"^\.|dist/|imgpipe", packages)
    }
    assert {"jupyterlab", "mlflow-skinny"} <= commands.keys()
    for packages, where in commands.items():
        report = tmp_path / "report.json"
        command = [pip, "install", "--dry-run", "--quiet", "--report", report, *packages.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        if "NewConnectionError" in done.stderr or "ConnectTimeout" in done.stderr:
            pytest.skip("needs a package index")
        assert done.returncode == 0, (where, done.stderr)
        names = {
            one["metadata"]["name"].lower() for one in json.loads(report.read_text())["install"]
        }
        assert not names & needed, where


@pytest.mark.slow
@browser.needed
def test_the_site_works_in_a_browser(site: Path, tmp_path: Path) -> None:
    """On a desktop and on a phone; the search works over HTTP and from the disk."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            with browser.chromium(tmp_path) as page:
                for width, scheme in ((1280, "light"), (390, "dark")):
                    page.look(width, 800, scheme)
                    for name in sorted(_pages()):
                        page.open(f"{address}/{name.removesuffix('.md')}.html")
                        wide = page.run("document.documentElement.scrollWidth - innerWidth")
                        assert wide <= 0, f"{name} is {wide} pixels too wide at {width}"
                        cut = page.run(
                            "[...document.querySelectorAll('.language-sh pre, .language-bash pre')]"
                            ".filter((e) => e.scrollWidth > e.clientWidth + 1).length"
                        )
                        assert not cut, f"commands of {name} are cut at the edge at {width}"
                page.look(1280)
                for start in (f"{address}/index.html", (site / "how-to" / "gpu.html").as_uri()):
                    page.open(start)
                    page.run("document.querySelector('[data-md-component=search-query]').focus()")
                    page.call("Input.insertText", text="quarantine")
                    page.wait("document.querySelector('.md-search-result__link')")
                assert not page.complaints
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder over HTTP without logging requests to the terminal."""

    def log_message(self, *_: object) -> None:
        return


def test_the_first_commands_of_the_readme_work_in_a_clone():
    """Nothing is published on an index, so that only what the clone has can come first."""
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    [_, first, *_] = re.split(r"^```.*$", readme, flags=re.MULTILINE)
    commands = [line.partition("#")[0].split() for line in first.strip().splitlines()]
    targets = set(
        re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    assert commands[:2] == [["make", "demo"], ["make", "test"]]
    for program, *arguments in commands:
        if program == "make":
            assert set(arguments) <= targets
        else:
            assert [program, *arguments] == [".", ".venv/bin/activate"], "`make demo` makes it"
    for page in [*DOCUMENTS, REPOSITORY / "packaging" / "client" / "README.md"]:
        assert not re.search(r"pip install '?imgpipe", page.read_text("utf-8")), page
