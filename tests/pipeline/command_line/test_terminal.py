"""Tests that text on the terminal is wrapped between words, but not inside paths and commands."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.text import Text

from imgpipe.pipeline.command_line import terminal

PATH = "/photographs/of/everyone/OUT/runs/20260131-140559/report.html"


@pytest.fixture
def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Return a function that gives the lines which a terminal of some width receives."""

    def lines(text: str, width: int, **options: bool) -> list[str]:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
        terminal.new_console().print(text, **options)
        return capsys.readouterr().out.splitlines()

    return lines


@pytest.mark.parametrize("width", [40, 60, 100])
def test_a_list_item_is_wrapped_between_words_and_indented(width, printed):
    text = "- too few 'tulip' in train: expected at least 4, found 2; add images, or lower it"
    lines = printed(text, width)
    assert max(map(len, lines)) <= width
    assert all(line.startswith("  ") for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == text


def test_text_after_a_heading_is_indented_to_its_column(printed):
    lines = printed("  data     250 files: 244 kept, 6 in quarantine (2 duplicate, 1 blurry)", 60)
    assert lines == [
        "  data     250 files: 244 kept, 6 in quarantine (2",
        "           duplicate, 1 blurry)",
    ]


def test_paths_and_soft_wrapped_commands_are_not_broken(printed):
    assert printed(f"  report   it is in {PATH}", 75) == [
        "  report   it is in",
        "           " + PATH,
    ]
    assert printed(f"  report   {PATH}", 40) == [f"  report   {PATH}"], "no line can hold it"
    command = f"  imgpipe run {PATH} --set judge.overrides=overrides.toml"
    assert printed(command, 60, soft_wrap=True) == [command]


def test_a_command_at_the_end_of_a_sentence_stays_in_one_piece(printed):
    command = "imgpipe clean /photographs/of/everyone/OUT --yes"
    text = f"2.6 MB can be freed. Remove it with: {command}"
    assert printed(text, 60) == ["2.6 MB can be freed. Remove it with:", command]
    assert printed(text, 40) == [text], "the terminal breaks it, and it can still be copied"


def test_wide_characters_count_as_two_columns():
    assert terminal.wrapped(Text("猫猫猫 犬犬犬 鳥鳥鳥"), 14).plain == "猫猫猫 犬犬犬\n鳥鳥鳥"


def test_wrapping_keeps_markup_and_only_terminals_get_wrapped_lines(capsys):
    terminal.new_console().print("[bold]one[/] " + "two " * 60)
    assert capsys.readouterr().out.count("\n") == 1
    line = terminal.wrapped(Text.from_markup("[bold]one two[/] three"), 8)
    assert (line.plain, line.spans[0].style) == ("one two\nthree", "bold")
