"""The run's page: one self-contained HTML file, drawn from the facts.

No script, no external resource: it can be mailed, archived and opened from disk. Paths and labels
come from strangers' folders, so everything is escaped by the template engine, and a content
security policy on the page forbids whatever would slip through.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.components.report import text
from imgpipe.components.report.section import Absent, Context, RunState, Section
from imgpipe.components.report.sections import SECTIONS
from imgpipe.components.report.thumbnails import Thumbnails

if TYPE_CHECKING:
    import jinja2

_log = logging.getLogger(__name__)
#: Bytes of odd file names (surrogates) cannot be written as UTF-8, control characters are not
#: shown, and those of writing direction show another name than the file has.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)

#: What the status is called on the page; the sign says it without colour.
STATUS = {
    "blessed": ("Blessed", "✓"),
    "not_blessed": ("Not blessed", "✕"),
    "refused": ("Data refused", "✕"),
    "failed": ("Failed", "!"),
    "clean": ("Clean", "✓"),
    "usable": ("Usable", "✓"),
}


def render(
    facts: Mapping[str, Any],
    timings: Mapping[str, Any] | None,
    images: Mapping[str, bytes],
    state: RunState,
) -> str:
    """Draw the page.

    Args:
      facts: of `imgpipe.components.report.facts.collect`; any part may be missing or None.
      timings: ``{"total_s", "import_s", "components": {name: seconds}, "cached": [name]}``.
      images: encoded files of rejects and mistakes by image hash; whatever bytes they are.
      state: how the run ended.

    Returns:
      The HTML text; encodes as UTF-8.
    """
    return draw(facts, timings or {}, images, state, SECTIONS)


def draw(
    facts: Mapping[str, Any],
    timings: Mapping[str, Any],
    images: Mapping[str, bytes],
    state: RunState,
    sections: Sequence[Section],
) -> str:
    """A page of any sections; the one called "verdict" is its heading. See `render`."""
    context = Context(facts, timings, Thumbnails(images), state)
    present, absent = [], []
    for section in sections:
        try:
            content = _draw(section, context)
        except Exception as error:  # one bad figure must not cost the page of a run
            _log.exception("the report's section %r could not be drawn", section.title)
            content = Absent(f"Could not be drawn ({type(error).__name__}: {error}).")
        if isinstance(content, Absent):
            absent.append((section, content.why))
        else:
            present.append((section, content))
    status, sign = STATUS.get(state.status, (state.status, "?"))
    settings = facts.get("settings") or {}
    html = (
        _environment()
        .get_template("page.html")
        .render(
            name=settings.get("name") or "imgpipe",
            settings=settings,
            state=state,
            status=status,
            sign=sign,
            present=present,
            absent=absent,
        )
    )
    return _UNPRINTABLE.sub(_visible, html)


def _draw(section: Section, context: Context) -> Any:
    """Markup of a section, or why there is none."""
    import markupsafe

    values = section.build(context)
    if isinstance(values, Absent):
        return values
    template = _environment().get_template(f"{section.template or section.id}.html")
    return markupsafe.Markup(template.render(**values))


def _visible(match: re.Match[str]) -> str:
    """A character that HTML cannot carry, spelt out; odd bytes of a name as Python shows them."""
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
