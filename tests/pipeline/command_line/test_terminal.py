"""Tests that sentences on a terminal break at words, and that commands and paths stay whole."""

import re
from collections.abc import Callable

import pytest

from imgpipe.components.report.blocks import Command, Figures, Listed, Sentence, Span
from imgpipe.pipeline.command_line import terminal
from imgpipe.pipeline.command_line.printing import print_blocks

_STYLES = re.compile(r"\x1b\[[0-9;]*m")
COMMAND = "imgpipe rollback '/photographs/of everyone/OUT' --to 3"


@pytest.fixture
def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Return a function that gives the lines that a terminal of 40 columns receives of blocks."""

    def lines(*blocks: object) -> list[str]:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "40")
        for block in blocks:
            if isinstance(block, str):
                terminal.say(terminal.new_console(), block)
            else:
                print_blocks(terminal.new_console(), [block])
        return _STYLES.sub("", capsys.readouterr().out).splitlines()

    return lines


def test_a_sentence_breaks_at_words(shown):
    text = "too few 'tulip' in train: expected at least 4, found 2; add images, or lower it"
    for block in (text, Sentence(text), Listed([text])):
        lines = shown(block)
        assert len(lines) > 1 and max(map(len, lines)) <= 40
        assert " ".join(line.strip() for line in lines) == text


@pytest.mark.parametrize(
    ("block", "lines"),
    [
        (Command(COMMAND), [COMMAND]),
        (Figures([("return to it:", Command(COMMAND))]), [f"  return to it:  {COMMAND}"]),
        (Figures([("page", Span(COMMAND, "path"))]), [f"  page     {COMMAND}"]),
        (Listed([f"return to it: {COMMAND}"], "ways"), [f"  → return to it: {COMMAND}"]),
    ],
)
def test_paths_and_commands_stay_whole(shown, block, lines):
    assert shown(block) == lines


def test_only_terminals_get_breaks_and_nothing_is_read_as_markup(capsys, shown):
    terminal.say(terminal.new_console(), "[bold]one[/] " + "two " * 60)
    assert capsys.readouterr().out.count("\n") == 1
    assert shown("[bold]one :x: \x1b[2J\nthree") == ["[bold]one :x: \\x1b[2J\\nthree"]
