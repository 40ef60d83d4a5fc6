"""Tests of imports without the garbage collector, of work ahead, and of what a machine lacks."""

import errno
import os
import sys
import time

import pytest
import tensorflow as tf

from imgpipe.models.machine import process
from imgpipe.models.machine.process import computed_ahead


def test_results_come_in_order_and_few_are_computed_ahead() -> None:
    begun: list[int] = []

    def squared(number: int) -> int:
        begun.append(number)
        time.sleep(0.01 / number)  # the later ones end first
        return number**2

    results = computed_ahead(squared, range(1, 21), threads=4, ahead=4)
    assert next(results) == 1
    assert len(begun) <= 5
    assert list(results) == [number**2 for number in range(2, 21)]


def test_the_first_error_of_an_item_ends_the_work() -> None:
    done: list[int] = []

    def inverse(number: int) -> float:
        done.append(number)
        return 1 / (number - 3)

    results = computed_ahead(inverse, range(1000), threads=2, ahead=4)
    assert [next(results) for _ in range(3)] == [-1 / 3, -1 / 2, -1]
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        next(results)
    assert len(done) < 12


@pytest.mark.parametrize(
    ("given", "imported", "expected"), [("", False, "1"), ("0", False, "0"), ("", True, None)]
)
def test_runs_compute_batches_with_onednn_unless_it_is_decided(
    monkeypatch: pytest.MonkeyPatch, given: str, imported: bool, expected: str | None
) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)  # so that it is restored after the test
    if not given:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    if not imported:
        monkeypatch.delitem(sys.modules, "tensorflow")
    process.prefer_batches()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == expected


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), "memory"),
        (MemoryError(), "memory"),
        (OSError(errno.ENOSPC, "full"), "disk"),
        (OSError(errno.EDQUOT, "quota"), "disk"),
        (OSError(errno.ENOENT, "missing"), None),
        (ValueError("defect"), None),
    ],
)
def test_a_lack_of_memory_or_disk_is_told_from_other_errors(
    error: Exception, lack: str | None
) -> None:
    assert process.lacking(error) == lack
