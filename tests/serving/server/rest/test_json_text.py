"""Bytes are parsed as JSON: what is accepted, TensorFlow Serving's error messages, and limits."""

from __future__ import annotations

import threading
import tracemalloc

import pytest

from imgpipe.serving.server.rest import json_bounds, json_text
from imgpipe.serving.server.rest.body import TooLarge
from imgpipe.serving.server.rest.json_text import Repeated, read
from imgpipe.serving.server.status import StatusError


def refused(body: bytes) -> str:
    """Return the message with which ``read`` refuses a body."""
    with pytest.raises(StatusError) as error:  # noqa: PT011 - the caller checks the message
        read(body)
    return error.value.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b" \n", "JSON Parse error: The document is empty. at offset: 2"),
        (b"instances = [1]", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"a": }', "JSON Parse error: Invalid value. at offset: 6"),
        (b"{a: 1}", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "JSON Parse error: Missing a colon after a name of object member."),
        (b'{"a": 1 "b": 2}', "JSON Parse error: Missing a comma or } after an object member."),
        (b'{"[": [1 2]}', "JSON Parse error: Missing a comma or ] after an array element."),
        (b'{"a": "x', "JSON Parse error: Missing a closing quotation mark in string."),
        (b'{"a": "\\x"}', "JSON Parse error: Invalid escape character in string."),
        (b'{"a": "\\uZZZZ"}', "JSON Parse error: Incorrect hex digit after \\u escape in string"),
        (b'{"a": "\x01"}', "JSON Parse error: Invalid encoding in string."),
        (b'{"a": "\xff"}', "JSON Parse error: Invalid encoding in string. at offset: 7"),
        (b'{"a": ' + b"1" * 5000 + b"}", "JSON Parse error: Number too big to be stored"),
        (b"[1, 2]", "JSON Value: [1, 2] Is not object"),
        (b'"x"', 'JSON Value: "x" Is not object'),
        (b"NaN", "JSON Value: NaN Is not object"),
    ],
)
def test_invalid_documents_are_refused(body, words):
    assert refused(body).startswith(words)


def test_offsets_in_errors_count_bytes():
    assert refused('{"ü": x}'.encode()) == "JSON Parse error: Invalid value. at offset: 7"


def test_the_extensions_of_upstream_are_accepted():
    assert read(b'\xef\xbb\xbf {"a": 1} and the rest is ignored') == {"a": 1}
    found = read(b'{"a": [NaN, Infinity, -Infinity, 1e400]}')["a"]
    assert [type(item) is json_text.Constant for item in found] == [True, True, True, False]
    assert str(found) == "[nan, inf, -inf, inf]"


def test_the_first_of_equal_keys_is_used():
    found = read(b'{"a": 1, "b": 2, "a": 3}')
    assert isinstance(found, Repeated)
    assert found == {"a": 1, "b": 2}


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_of_more_than_500_levels_is_refused(opening):
    closing = b"]" if opening == b"[" else b"}"

    def nested(levels: int) -> bytes:
        inner = levels - 1  # the document itself is one level
        return b'{"x": ' + opening * inner + b"1" + closing * inner + b"}"

    assert read(nested(json_bounds.MAX_DEPTH))
    for levels in (501, 999, 5_000, 50_000, 2_000_000):
        assert "Nesting too deep" in refused(nested(levels))
        assert "Nesting too deep" in refused(nested(levels)[: 6 + levels * len(opening)])


def test_brackets_in_strings_do_not_count_as_levels():
    text = '{"a": "' + "[" * 5000 + '", "b": "\\"' + "{" * 5000 + '", "c": [[1]]}'
    assert set(read(text.encode())) == {"a", "b", "c"}
    # Closing brackets in a string do not hide the levels that follow.
    assert "too deep" in refused(b'{"a": "' + b"]" * 5000 + b'", "b": ' + b"[" * 600)


def test_many_lists_side_by_side_do_not_count_as_levels():
    assert len(read(b'{"a": [' + b"[1]," * 400_000 + b"1]}")["a"]) == 400_001


def test_unfinished_strings_take_linear_time():
    for body in (b'{"a' + b'\\"' * 2_000_000 + b"[" * 501, b'"' * 1_000_001 + b"[" * 501):
        assert refused(body).startswith("JSON ")


def test_shown_values_are_truncated_without_serializing_all_of_them():
    value = [float(i) for i in range(1_000_000)]
    tracemalloc.start()
    text = json_text.shown(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert text.startswith("[0.0, 1.0, 2.0") and len(text) == 256
    assert peak < 1 << 20
    deep: list = []
    for _ in range(480):
        deep = [deep]
    assert json_text.shown(deep).startswith("[[[[")
    assert json_text.shown("ü" * 1000) == '"' + "ü" * 127


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "Null"),
        (True, "True"),
        (False, "False"),
        ({}, "Object"),
        ([], "Array"),
        ("", "String"),
        (1, "Number"),
        (1.5, "Number"),
    ],
)
def test_names_of_types(value, name):
    assert json_text.kind(value) == name


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"a": [1, 2, 3]}', 5),
        (b'{"a": {"b": "x,y,[{", "c": null}}', 4),
        (b'{"a": "' + b"," * 5000 + b'", "b": [[], {}]}', 7),
        (b'{"a": "' + b'\\"[,' * 600 + b'\\\\"}', 2),
        (b'{"a": [' + b"[1]," * 700 + b"1]}", 1403),
    ],
    ids=["numbers", "strings", "commas in a string", "escapes", "lists"],
)
def test_values_are_counted(body, values):
    assert read(body, values)
    words = rf"more than {values - 1:,} values .*Send fewer rows at once"
    with pytest.raises(TooLarge, match=words):
        read(body, values - 1)


def test_escapes_may_cross_the_borders_of_chunks(monkeypatch):
    body = b'{"a": "' + b"\\\\" * 40 + b'\\"[[[,,", "b": [1, 2]}'
    for size in range(2, 40):
        monkeypatch.setattr(json_bounds, "CHUNK", size)
        monkeypatch.setattr(json_bounds, "MAX_DEPTH", 2)
        json_bounds.check(body, 5)
        with pytest.raises(TooLarge, match="more than 4 values"):
            json_bounds.check(body, 4)
        json_bounds.check(b"\\" * 101 + b"[" * 2, 5)
        with pytest.raises(StatusError, match=r"Nesting too deep\. Allowed are 2 levels"):
            json_bounds.check(b'{"a": [[1]]}', 5)


def test_other_threads_run_while_numbers_are_parsed():
    """A single call of Python's parser would hold the interpreter lock for the whole body."""
    body = b'{"a": [' + b"0.123456789," * 800_000 + b"1]}"
    json_bounds.check(body, 1_000_000)
    before, ticks, done = 0, 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        before = ticks
        assert len(read(body)["a"]) == 800_001
        assert ticks - before > 5
    finally:
        done.set()
        thread.join()
