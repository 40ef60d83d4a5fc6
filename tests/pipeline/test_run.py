"""What a failure inside a run means to the person who started it."""

from __future__ import annotations

import errno

import pytest

from imgpipe.models.errors import ConfigError, DataRefused
from imgpipe.pipeline import run


def _raised(error: Exception, cause: BaseException) -> Exception:
    """`error` as it arrives when it was raised from `cause`."""
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (_raised(RuntimeError("in a worker"), DataRefused("too few cats")), 4),
        (_raised(RuntimeError("in a worker"), ConfigError("no such folder")), 2),
        (_raised(RuntimeError("saving"), OSError(errno.ENOSPC, "No space left on device")), 5),
        (RuntimeError("OSError: No space left on device [while running 'Write']"), 5),
        (RuntimeError("KeyboardInterrupt [while running 'Extract']"), 130),
        (RuntimeError("something else"), 1),
    ],
)
def test_the_exit_code_is_that_of_the_cause(error: Exception, exit_code: int):
    assert run._exit_code(run._known(error), blessed=False) == exit_code


def test_a_defect_is_told_in_one_line():
    assert run._cause(ValueError("first\nsecond")) == "ValueError: first"
    assert run._cause(None) == ""
