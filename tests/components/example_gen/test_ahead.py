"""A process that works ahead fills the inspection cache, and ends with the one that started it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from imgpipe.components.example_gen import ahead
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.inspection_cache import InspectionCache
from imgpipe.components.example_gen.sources import SourceOptions, open_source

_LIMIT = 1_000_000
_PATIENCE = 280  # seconds; TensorFlow is imported beside other work

#: Starts the process, tells its number, and dies without a chance to end it.
_PARENT = """
import os, sys
from imgpipe.components.example_gen.ahead import Ahead, Work
print(Ahead(Work.from_json(sys.argv[1]))._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def work(photos, tmp_path):
    """Work on 70 images, two of which are not usable, in shards of 64."""
    folder = photos({"a": 34, "b": 34, "a/empty.jpg": b"", "b/text.jpg": b"no image"})
    return ahead.Work(str(folder), SourceOptions(), _LIMIT, str(tmp_path / "store"))


def _missing(work):
    scan = open_source(work.source, work.options).scan()
    with InspectionCache(work.store, work.pixel_limit) as cache:
        return cache.missing(item.sha256 for item in scan.items)


def test_all_results_are_those_of_the_run_itself(work, tmp_path):
    scan = open_source(work.source, work.options).scan()
    if len(os.sched_getaffinity(0)) > 1:
        assert work.pays(scan)
    assert ahead.Ahead(work).finish(_PATIENCE) == 0
    assert _missing(work) == 0
    assert not work.pays(scan)
    source = open_source(work.source, work.options)
    found = list(inspect(source, scan.items, work.pixel_limit, work.store))
    expected = list(inspect(source, scan.items, work.pixel_limit, str(tmp_path / "other")))
    assert found == expected


def test_a_few_new_images_are_left_to_the_run(photos, tmp_path):
    folder = photos({"a": 20, "b": 20})
    few = ahead.Work(str(folder), SourceOptions(), _LIMIT, str(tmp_path / "store"))
    assert not few.pays(open_source(str(folder)).scan())


def test_it_is_stopped_before_it_has_done_anything(work):
    started = ahead.Ahead(work)
    started.stop()
    assert started.finish(_PATIENCE) == -9
    assert _missing(work) == 70


def test_it_ends_with_a_process_that_was_killed(work):
    command = [sys.executable, "-c", _PARENT, work.to_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    assert done.returncode == -9
    assert _ended(int(done.stdout))


def _ended(pid):
    """Whether a process ends before it has done its work; it has no parent that could wait."""
    descriptor = os.pidfd_open(pid) if _alive(pid) else None
    if descriptor is None:
        return True
    import select

    try:
        return bool(select.select([descriptor], [], [], _PATIENCE)[0])
    finally:
        os.close(descriptor)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
