"""The pipeline where processes are spawned, without `/proc` and what else only Linux has."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.e2e import as_on_a_mac

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_run_and_its_model_need_nothing_that_only_linux_has(drawn: Path, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=as_on_a_mac.become) as processes:
        system, blessed, label = processes.submit(as_on_a_mac.run, drawn, tmp_path / "out").result()
    assert (system, blessed) == ("Darwin", True)
    assert label in {"paper", "rock", "scissors"}
