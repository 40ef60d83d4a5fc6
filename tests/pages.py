"""Draws pages for tests, and reads them."""

import html.parser
import re
from collections.abc import Mapping

from imgpipe.components.report.commands import next_commands
from imgpipe.components.report.page import Page
from imgpipe.components.run_record.result import Result
from tests.run_results import jpeg


def render(result: Result, images: Mapping[str, bytes]) -> str:
    """Return the page of a run as HTML, with the commands that go on from it."""
    return Page.of({**result, "next": next_commands(result)}).html(images)


class Everywhere(dict[str, bytes]):
    """A dictionary that has the same image for every hash."""

    def get(self, key, default=None):
        return jpeg()


_VOID = {"meta", "img", "br", "link", "input", "hr"}


class ParsedPage(html.parser.HTMLParser):
    """A parser of the page, which collects what is on it and fails if tags are not balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.tags, self.texts = [], [], [], [], []
        self.captions = self.tables = 0
        self.alts = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [v for k, v in attrs if k in ("href", "src", "xlink:href")]
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if tag == "img" and values.get("alt") != "":  # a caption says what an enlarged one is
            self.alts.append(values.get("alt"))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        """Return the visible text with single spaces."""
        return re.sub(r"\s+", " ", " ".join(self.texts))


def read(found, images=None):
    """Return the parsed page after assertions that hold for every page."""
    text = render(found, {} if images is None else images)
    parsed = ParsedPage(text)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert not {"script", "iframe", "link", "object", "form"} & set(parsed.tags)
    for link in parsed.links:
        assert link.startswith(("#", "data:image/")), link
        assert not link.startswith("#") or link[1:] in parsed.ids
    assert "url(http" not in text
    assert parsed.captions == parsed.tables
    assert all(parsed.alts)
    assert "could not be drawn" not in parsed.text.lower()
    text.encode("utf-8")
    return parsed
