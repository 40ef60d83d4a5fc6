"""Errors of TensorFlow become status codes and messages of one line."""

from __future__ import annotations

import pytest

from imgpipe.serving.server import status

NODE = "\n\t [[{{node map/while/body/decode_image/DecodeImage}}]]"


@pytest.mark.parametrize(
    ("message", "tidy"),
    [
        ("Input is empty." + NODE, "Input is empty."),
        ("Input is empty. [[{{node a}}]]" + NODE, "Input is empty."),
        ("{{function_node __f_12}} {{node a/b}} Bad shape [Op:MatMul] name: x", "Bad shape"),
        (
            f"2 root error(s) found.\n  (0) INVALID_ARGUMENT: Input is empty.{NODE}\n  (1) INVAL",
            "Input is empty.",
        ),
        ("first\nsecond", "first"),
        ("", ""),
        ("[[{{node a}}]]", "[[{{node a}}]]"),
    ],
)
def test_tidy_keeps_one_line_without_names_of_nodes(message, tidy):
    assert status.tidy(message) == tidy


def test_truncate_keeps_characters_whole():
    assert status.truncate("x" * 1024) == "x" * 1024
    assert status.truncate("x" * 1025) == "x" * 1024 + "...TRUNCATED"
    assert status.truncate("x" + "ü" * 600) == "x" + "ü" * 511 + "...TRUNCATED"
    assert status.truncate("no input \ud800") == "no input ?"
