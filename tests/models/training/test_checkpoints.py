"""Tests that a resumed training ends with the weights of an uninterrupted one, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from imgpipe.models import feature_names as names
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training.checkpoints import Checkpoint
from imgpipe.models.training.training_loop import Fit, fit_head
from tests.models.banks import read_split

_SETTINGS = ModelSettings(
    epochs=8,
    batch_size=16,
    patience=8,
    learning_rate=0.01,
    hidden_units=8,
    dropout=0.5,
    schedule="cosine",
)


class Killed(Exception):
    """An exception that stands for the end of the process."""


class Fragile(Checkpoint):
    """A checkpoint that raises `Killed` after `writes` writes."""

    def __init__(self, path: Path, writes: int) -> None:
        super().__init__(path, "key", seconds_apart=0.0)
        self._left = writes

    def write(self, *arguments: object) -> None:
        super().write(*arguments)
        self._left -= 1
        if not self._left:
            raise Killed("during a write")


@pytest.fixture(scope="module")
def bank(write_bank, tmp_path_factory) -> str:
    """Return the path of a bank of three overlapping classes."""
    return write_bank(tmp_path_factory.mktemp("bank"), spread=2.0)


def _fit(bank: str, checkpoint: Checkpoint | None = None) -> Fit:
    """Train a head on the bank, with or without a checkpoint."""
    train, validation = (read_split(bank, split, 3) for split in (names.TRAIN, names.VALIDATION))
    return fit_head(train, validation, 3, _SETTINGS, checkpoint=checkpoint)


def test_training_resumes_after_its_last_epoch(bank, tmp_path) -> None:
    straight = _fit(bank)
    path = tmp_path / "resume" / "head.npz"
    for writes in (1, 4):
        with pytest.raises(Killed, match="during a write"):
            _fit(bank, Fragile(path, writes))
    found = _fit(bank, Checkpoint(path, "key"))
    assert found.resumed == 5
    assert found.epochs == straight.epochs
    assert found.best_epoch == straight.best_epoch
    for one, other in zip(found.head.get_weights(), straight.head.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not path.exists(), "a finished training leaves nothing behind"


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", None])
def test_training_starts_anew_if_its_checkpoint_is_damaged(
    bank, tmp_path, damage: bytes | None
) -> None:
    path = tmp_path / "head.npz"
    with pytest.raises(Killed, match="during a write"):
        _fit(bank, Fragile(path, 2))
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    assert _fit(bank, Checkpoint(path, "key")).resumed == 0


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": "many"},
        {"best_epoch": 7},
        {"stopped": "tired"},
        {"lowest": None},
        {"best-00000": np.zeros((1, 1), np.float32)},
        {"state-00000": np.array([["a"]])},
    ],
    ids=lambda change: next(iter(change)),
)
def test_training_starts_anew_if_its_checkpoint_has_invalid_values(bank, tmp_path, change) -> None:
    path = tmp_path / "head.npz"
    with pytest.raises(Killed, match="during a write"):
        _fit(bank, Fragile(path, 2))
    with np.load(path) as file:
        arrays = dict(file)
    facts = json.loads(str(arrays["facts"]))
    for name, value in change.items():
        if name in arrays:
            arrays[name] = value
        else:
            assert name in facts
            facts[name] = value
    np.savez(path, **{**arrays, "facts": np.array(json.dumps(facts))})
    assert _fit(bank, Checkpoint(path, "key")).resumed == 0


def test_a_checkpoint_of_another_training_is_not_resumed(bank, tmp_path) -> None:
    path = tmp_path / "head.npz"
    with pytest.raises(Killed, match="during a write"):
        _fit(bank, Fragile(path, 2))
    assert _fit(bank, Checkpoint(path, "other")).resumed == 0


_PROGRAM = """
import sys
from pathlib import Path
from imgpipe.models import feature_names as names
from tests.models.banks import read_split
from imgpipe.models.training.checkpoints import Checkpoint
from imgpipe.models.training.training_loop import fit_head
from imgpipe.models.settings import ModelSettings

bank, path, result = sys.argv[1:]
rows = [read_split(bank, split, 3) for split in (names.TRAIN, names.VALIDATION)]
settings = ModelSettings(
    optimizer="adam", epochs=400, batch_size=8, patience=400, dropout=0.5
)
fit = fit_head(*rows, 3, settings, checkpoint=Checkpoint(Path(path), "key", 0.0))
import numpy as np
np.savez(result, *fit.head.get_weights(), resumed=fit.resumed)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)  # the sum of the timeouts below; TensorFlow is imported three times
def test_a_training_that_is_killed_resumes_with_the_same_weights(bank, tmp_path) -> None:
    """A process is really killed with SIGKILL in the middle of its training."""
    path = tmp_path / "head.npz"

    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}

    def command(name: str, checkpoint: Path) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, bank, str(checkpoint), str(tmp_path / name)]

    with subprocess.Popen(command("killed.npz", path), env=environment) as process:
        deadline = time.monotonic() + 120
        while not path.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    for name, checkpoint in (("again.npz", path), ("straight.npz", tmp_path / "other.npz")):
        subprocess.run(command(name, checkpoint), env=environment, timeout=180, check=True)
    with np.load(tmp_path / "again.npz") as again, np.load(tmp_path / "straight.npz") as straight:
        assert again["resumed"] > 0
        assert straight["resumed"] == 0
        for name in straight.files:
            if name != "resumed":
                np.testing.assert_array_equal(again[name], straight[name])
