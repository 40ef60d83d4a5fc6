"""Tests of which errors say that the machine lacks something."""

from __future__ import annotations

import errno

import pytest
import tensorflow as tf

from imgpipe.models import shortages


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), "memory"),
        (MemoryError(), "memory"),
        (OSError(errno.ENOSPC, "full"), "disk"),
        (OSError(errno.EDQUOT, "quota"), "disk"),
        (OSError(errno.ENOENT, "missing"), ""),
        (ValueError("defect"), ""),
    ],
)
def test_a_lack_of_memory_or_disk_is_told_from_other_errors(error: Exception, lacking: str) -> None:
    assert shortages.lacking(error) == lacking
