"""Tests of tf.distribute with two devices of one process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgpipe.models import names
from imgpipe.models.features.bank import read_rows
from imgpipe.models.machine import process
from imgpipe.models.settings.model import ModelSettings
from tests.models.banks import fit_head

_SECONDS = 240
_PROGRAM = """
import sys
import numpy as np
bank, result = sys.argv[1:]
import tensorflow as tf
from imgpipe.models.machine import process
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from imgpipe.models import names
from imgpipe.models.features.bank import read_rows
from tests.models.banks import fit_head
from imgpipe.models.settings.model import ModelSettings
rows = [read_rows(bank, split, 3) for split in (names.TRAIN, names.VALIDATION)]
settings = ModelSettings(
    optimizer="adam",
    epochs=5,
    batch_size=20,
    dropout=0.0,
    learning_rate=0.01,
    strategy="mirrored",
)
with process.device_scope("mirrored"):
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
fit = fit_head(*rows, 3, settings)
losses = [epoch["loss"] for epoch in fit.stage["epochs"]]
np.savez(result, *fit.layers.get_weights(), replicas=replicas, losses=losses)
"""


@pytest.fixture(scope="module")
def bank(write_bank, tmp_path_factory) -> str:
    """Return the path of a bank of three classes."""
    return write_bank(tmp_path_factory.mktemp("bank"))


def _alone(bank: str) -> tuple[list[np.ndarray], list[float]]:
    """Return the weights and losses of a training on one device."""
    rows = [read_rows(bank, split, 3) for split in (names.TRAIN, names.VALIDATION)]
    settings = ModelSettings(
        optimizer="adam", epochs=5, batch_size=20, dropout=0.0, learning_rate=0.01
    )
    fit = fit_head(*rows, 3, settings)
    return fit.layers.get_weights(), [epoch["loss"] for epoch in fit.stage["epochs"]]


def _same(file: Path, bank: str) -> None:
    """Assert that two replicas reached the weights and losses of one.

    The gradient of a step is that of the whole batch.
    """
    weights, losses = _alone(bank)
    with np.load(file) as found:
        assert found["replicas"] == 2
        np.testing.assert_allclose(found["losses"], losses, rtol=1e-3)
        for place, weight in enumerate(weights):
            np.testing.assert_allclose(found[f"arr_{place}"], weight, atol=1e-3)


@pytest.mark.slow
def test_two_devices_reach_the_weights_of_one(bank, tmp_path) -> None:
    arguments = [sys.executable, "-c", _PROGRAM, bank, str(tmp_path / "two.npz")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(arguments, env=environment, check=True, timeout=_SECONDS)
    _same(tmp_path / "two.npz", bank)


def test_the_dtype_policy_is_restored() -> None:
    import keras

    before = keras.config.dtype_policy()
    with process.dtype_policy("mixed_bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.dtype_policy() == before
