"""The run's page: one self-contained HTML file, drawn from the facts.

The page has no scripts and no external resources, so that it can be mailed, archived and opened
from disk. Paths and labels are not trusted: the template engine escapes all text, and the content
security policy of the page forbids scripts and external resources that it might miss.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.common import formatting as text
from imgpipe.components.report.pictures.thumbnails import Thumbnails
from imgpipe.components.report.section import Absent, Context, Section
from imgpipe.components.report.sections import SECTIONS

if TYPE_CHECKING:
    import jinja2

    from imgpipe.components.report.page_facts import PageFacts
    from imgpipe.components.run_record.timings import Timings
    from imgpipe.components.run_record.verdict import RunState

_log = logging.getLogger(__name__)
#: Characters that are replaced: surrogates, which stand for bytes of file names that are not UTF-8
#: and cannot be written; control characters; and characters that change the writing direction,
#: with which a name looks like another name.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)

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
    "below_threshold": ("Below the threshold", "✕"),
}


def render(
    facts: PageFacts,
    timings: Timings | None,
    images: Mapping[str, bytes],
    state: RunState,
    sections: Sequence[Section] | None = None,
) -> str:
    """Draw the page as HTML text, which can be encoded as UTF-8.

    Args:
        facts: Facts from `page_facts.collect`.
        timings: Durations of the components; None if they are not known.
        images: Encoded files of the images that are shown, by image hash; any bytes are safe.
        state: How the run ended.
        sections: Sections of the page, those of a run by default. The one called "verdict" is the
            heading.
    """
    context = Context(facts, timings, Thumbnails(images), state)
    present: list[tuple[Section, Any]] = []
    absent: list[tuple[Section, str]] = []
    stopped: list[Section] = []
    for section in sections or SECTIONS:
        try:
            content = _draw(section, context)
        except Exception as error:  # a section that fails must not prevent the page
            _log.exception("the report's section %r could not be drawn", section.title)
            content = Absent(f"Could not be drawn ({type(error).__name__}: {error}).")
        if not isinstance(content, Absent):
            present.append((section, content))
        elif content.stopped:
            stopped.append(section)
        else:
            absent.append((section, content.why))
    status, sign = STATUS[state.status]
    template = _environment().get_template("page.html")
    html = template.render(
        settings=facts["settings"],
        state=state,
        status=status,
        sign=sign,
        pictures=[entry for entry in present if not entry[0].numbers],
        numbers=[entry for entry in present if entry[0].numbers],
        absent=absent,
        stopped=stopped,
    )
    return _UNPRINTABLE.sub(_visible, html)


def _draw(section: Section, context: Context) -> Any:
    """Return the markup of a section, or the reason why there is none."""
    import markupsafe

    values = section.build(context)
    if isinstance(values, Absent):
        return values
    template = _environment().get_template(f"{section.template or section.id}.html")
    return markupsafe.Markup(template.render(**values))


def _visible(match: re.Match[str]) -> str:
    """Return the escape sequence that is shown for an unprintable character or byte."""
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(text.FILTERS)
    return environment
