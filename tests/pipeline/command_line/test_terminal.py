"""Tests that lines on a terminal break at words, and neither inside paths nor inside commands."""

import re
from collections.abc import Callable

import pytest

from imgpipe.pipeline.command_line import terminal

_STYLES = re.compile(r"\x1b\[[0-9;]*m")
PATH = "/photographs/of everyone/OUT/runs/20260131-140559/report.html"


@pytest.fixture
def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, int], list[str]]:
    """Return a function that gives the lines which a terminal of some width receives."""

    def lines(text: str, width: int) -> list[str]:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
        terminal.say(terminal.new_console(), text)
        return _STYLES.sub("", capsys.readouterr().out).splitlines()

    return lines


@pytest.mark.parametrize("width", [40, 80, 120])
def test_an_item_breaks_at_words_and_is_indented(width, printed):
    text = "- too few 'tulip' in train: expected at least 4, found 2; add images, or lower it"
    lines = printed(text, width)
    assert max(map(len, lines)) <= width
    assert all(line.startswith("  ") for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == text


def test_text_behind_a_heading_continues_below_its_beginning(printed):
    assert printed(
        "  data     250 files: 244 kept, 6 in quarantine (2 duplicate, 1 blurry)", 60
    ) == [
        "  data     250 files: 244 kept, 6 in quarantine (2",
        "           duplicate, 1 blurry)",
    ]
    assert printed("猫猫猫 犬犬犬 鳥鳥鳥", 14) == ["猫猫猫 犬犬犬", "鳥鳥鳥"]


def test_paths_and_commands_stay_whole(printed):
    assert printed(f"  report   {PATH}", 60) == [f"  report   {PATH}"], "no line can hold it"
    folder = "  old runs/those of our friends/first  "
    assert printed(f"{folder}2.6 MB", 40) == [folder.rstrip(), "  2.6 MB"]
    command = "imgpipe rollback /photographs/OUT --to 3"
    said = f"2.6 MB can be freed. Remove it with: {command}"
    assert printed(said, 60) == ["2.6 MB can be freed. Remove it with:", command]
    assert printed("to leave them out: --set judge.severity.blurry=reject", 52) == [
        "to leave them out:",
        "--set judge.severity.blurry=reject",
    ]
    assert printed("There is none. Start one with `imgpipe serve OUT`, or wait.", 46) == [
        "There is none. Start one with",
        "`imgpipe serve OUT`, or wait.",
    ]
    assert printed(f"  serve it: {command} --port 9000 --model hands", 50) == [
        "  serve it:",
        f"  {command} --port 9000 --model hands",
    ]


def test_only_terminals_get_breaks_and_nothing_is_read_as_markup(capsys, printed):
    terminal.say(terminal.new_console(), "[bold]one[/] " + "two " * 60)
    assert capsys.readouterr().out.count("\n") == 1
    assert printed("[bold]one :x: \x1b[2J\nthree", 40) == ["[bold]one :x: \\x1b[2J\\nthree"]
