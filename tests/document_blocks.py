"""Reads the code blocks of the documents, and the outputs that are quoted below them.

Code blocks are blocks of shell commands and of Python. A block that no test can run has a comment
in the line above it, `<!-- not run: REASON -->`, which the built page shows to readers as well.
"""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
DOCUMENTS = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
#: Languages of the blocks that the tests run.
RUN = ("sh", "bash", "console", "python")
_FENCE = re.compile(
    r"(?:^ *<!-- not run: (?P<why>.+?) -->\n+)?"
    r"^ *```(?P<language>\w+)(?P<options>[^\n]*)\n(?P<text>.*?)^ *```$",
    flags=re.M | re.S,
)
_TITLE = re.compile(r'title="([^"]+)"')
_NUMBER = re.compile(r"\d+(?:[.:,-]\d+)*")
_WILD = "…"
#: What a browser has, for examples in JavaScript.
_BROWSER = """
const [width, height, data] = [{}, {}, new Uint8ClampedArray({})];
globalThis.createImageBitmap = async () => ({{ width, height }});
globalThis.OffscreenCanvas = class {{
  getContext() {{
    return {{ drawImage() {{}}, getImageData: () => ({{ data, width, height }}) }};
  }}
}};
{}
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its line, and why it is not run ("" if it is run).

    A block with a title is not run, but a file of this name that other blocks use.
    """

    language: str
    text: str
    line: int
    why: str
    title: str = ""

    @property
    def commands(self) -> list[str]:
        """The command lines without comments; a command that continues over lines is one string."""
        return [command for command, _ in self.expected]

    @property
    def expected(self) -> list[tuple[str, int]]:
        """The command lines with the exit codes that comments behind them name, otherwise 0."""
        found = []
        for line in self.text.replace("\\\n", " ").splitlines():
            command = re.sub(r"(^|\s+)#.*$", "", line).strip().removeprefix("$ ")
            code = re.search(r"#.*exit code (\d+)", line)
            if command:
                found.append((command, int(code[1]) if code else 0))
        return found


def name_of(document: Path) -> str:
    """Return the path of a document below the repository."""
    return str(document.relative_to(REPOSITORY))


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document in the order of the document."""
    text = document.read_text("utf-8")
    return [
        Block(
            one["language"],
            textwrap.dedent(one["text"]),
            text[: one.start()].count("\n") + 1,
            one["why"] or "",
            title[1] if (title := _TITLE.search(one["options"])) else "",
        )
        for one in _FENCE.finditer(text)
    ]


def in_a_browser(code: str, pixels: np.ndarray) -> str:
    """Return a program for node in which JavaScript for a browser finds an image.

    `pixels` are those of the image, uint8 [height, width, 3].
    """
    height, width, _ = pixels.shape
    with_alpha = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
    return _BROWSER.format(width, height, with_alpha.ravel().tolist(), code)


def matches(quoted: str, printed: str) -> bool:
    """Return whether each line of a quoted output was printed, in this order.

    `…` in the quoted output matches any text. Numbers and the widths of columns may differ.
    """
    lines = [_plain(line) for line in printed.splitlines()]
    start = 0
    for line in quoted.splitlines():
        wanted = re.escape(_plain(line)).replace(_WILD, ".*")
        if line.strip() in ("", _WILD):
            continue
        found = next((i for i in range(start, len(lines)) if re.fullmatch(wanted, lines[i])), None)
        if found is None:
            return False
        start = found + 1
    return True


def _plain(line: str) -> str:
    """Return a line with one space between words, in which every number is replaced by 0."""
    return _NUMBER.sub("0", " ".join(line.split()))
