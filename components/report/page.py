"""A page: one self-contained HTML file, drawn from a result.

The page has no scripts and no external resources, so that it can be mailed, archived and opened
from disk. Paths and labels are not trusted: the template engine escapes all text, and the content
security policy of the page forbids scripts and external resources that it might miss.
"""

from __future__ import annotations

import functools
import itertools
import logging
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.common import formatting as text
from imgpipe.components.report.blocks import (
    Picture,
    ResultBlock,
    Section,
    Sentence,
    pictures,
)
from imgpipe.components.report.pictures import plots
from imgpipe.components.report.pictures.thumbnails import Thumbnails
from imgpipe.components.report.sections import SECTIONS
from imgpipe.components.run_record.result import Result, whole

if TYPE_CHECKING:
    import jinja2

_log = logging.getLogger(__name__)
#: Characters that are replaced: surrogates, which stand for bytes of file names that are not UTF-8
#: and cannot be written; control characters; and characters that change the writing direction,
#: with which a name looks like another name.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)

#: Folder of the style that all pages share.
_STYLE = Path(str(files("imgpipe.serving")))
#: Text of each status on the page, and a sign for readers who do not see the colour.
STATUS = {
    "blessed": ("Blessed", "✓"),
    "not_blessed": ("Not blessed", "✕"),
    "not_published": ("Not published", "✕"),
    "refused": ("Data refused", "✕"),
    "failed": ("Failed", "!"),
    "interrupted": ("Interrupted", "–"),
    "clean": ("Data accepted", "✓"),
    "usable": ("Data accepted", "✓"),
    "evaluated": ("Evaluated", "✓"),
    "below_threshold": ("Threshold not shown to be reached", "✕"),
}


@dataclass(frozen=True)
class Page:
    """What a page shows; `html` draws it.

    Attributes:
        result: What it shows.
        present: Its sections with their blocks. The one called "verdict" is the heading.
    """

    result: Result
    present: Sequence[tuple[Section, Sequence[ResultBlock]]]

    @classmethod
    def of(cls, result: Result, sections: Sequence[Section] | None = None) -> Page:
        """Build the sections of a page, those of a run by default."""
        present: list[tuple[Section, Sequence[ResultBlock]]] = []
        for section in sections or SECTIONS:
            try:
                content = [*section.build(result)]
            except Exception as error:  # a section that fails must not prevent the page
                content = [Sentence(_failure(section, error))]
            if content:
                present.append((section, content))
        return cls(result, present)

    def pictures(self) -> list[Picture]:
        """Return the pictures that the page shows, those last of which there are many."""
        shown = pictures([blocks for _, blocks in self.present])
        return sorted(shown, key=lambda picture: picture.many)

    def html(self, images: Mapping[str, bytes]) -> str:
        """Return the page as HTML text, which can be encoded as UTF-8.

        Args:
            images: Encoded files of the images that are shown, by the keys of the pictures; any
                bytes are safe.
        """
        status, sign = STATUS[self.result["status"]]
        environment = _environment()
        thumbnails = Thumbnails(images, self.pictures())
        macros: Any = environment.get_template("blocks.html").make_module(
            {
                "images": images,
                "thumbnails": thumbnails,
                "draw_map": plots.draw_map,
                "next_number": itertools.count().__next__,
            }
        )

        def drawn(section: Section, content: Sequence[ResultBlock], level: int) -> str:
            try:
                shown: str = macros.draw(content, level)
            except Exception as error:  # a section that fails must not prevent the page
                return _failure(section, error)
            return shown

        html = environment.get_template("page.html").render(
            page=self,
            result=self.result,
            log=whole(self.result, self.result["log"]),
            status=status,
            sign=sign,
            drawn=drawn,
            thumbnails=thumbnails,
        )
        return _UNPRINTABLE.sub(_visible, html)


def _failure(section: Section, error: Exception) -> str:
    _log.exception("the report's section %r could not be drawn", section.title)
    return f"Could not be drawn ({type(error).__name__}: {error})."


def _visible(match: re.Match[str]) -> str:
    """Return the escape sequence that is shown for an unprintable character or byte."""
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _kind(value: object) -> str:
    """Return the name of the macro that draws a block or a part of a text, also one of NumPy."""
    kinds = (("str", str), ("int", numbers.Integral), ("float", numbers.Real))
    return next((name for name, kind in kinds if isinstance(value, kind)), type(value).__name__)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent / "templates", _STYLE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        kind=_kind,
        percent=lambda share: f"{100 * share:.1f}%",
        count=text.count,
        share=text.share,
    )
    return environment
