"""Tests of tf.distribute with two devices of one process, and two processes on one machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgpipe.models import distribution
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training.training_loop import fit_head
from tests.models.banks import read_split

_SECONDS = 240
_PROGRAM = """
import sys
import numpy as np
strategy, bank, result = sys.argv[1:]
import tensorflow as tf
from imgpipe.models import distribution
if strategy == "mirrored":
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
distribution.prepare(strategy)
from imgpipe.models import feature_names as names
from tests.models.banks import read_split
from imgpipe.models.training.training_loop import fit_head
from imgpipe.models.settings import ModelSettings
rows = [read_split(bank, split, 3) for split in (names.TRAIN, names.VALIDATION)]
settings = ModelSettings(
    optimizer="adam",
    epochs=5,
    batch_size=20,
    dropout=0.0,
    learning_rate=0.01,
    strategy=strategy,
)
with distribution.scope(strategy):
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
fit = fit_head(*rows, 3, settings)
losses = [epoch["loss"] for epoch in fit.history["epochs"]]
np.savez(result, *fit.layers.get_weights(), replicas=replicas, losses=losses)
"""


@pytest.fixture(scope="module")
def bank(write_bank, tmp_path_factory) -> str:
    """Return the path of a bank of three classes."""
    return write_bank(tmp_path_factory.mktemp("bank"))


def _start(strategy: str, bank: str, result: Path, **variables: str) -> subprocess.Popen[bytes]:
    """Start a training in a process that writes its weights and losses to `result`."""
    arguments = [sys.executable, "-c", _PROGRAM, strategy, bank, str(result)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.Popen(arguments, env=environment)


def _alone(bank: str) -> tuple[list[np.ndarray], list[float]]:
    """Return the weights and losses of a training on one device."""
    rows = [read_split(bank, split, 3) for split in (names.TRAIN, names.VALIDATION)]
    settings = ModelSettings(
        optimizer="adam", epochs=5, batch_size=20, dropout=0.0, learning_rate=0.01
    )
    fit = fit_head(*rows, 3, settings)
    return fit.layers.get_weights(), [epoch["loss"] for epoch in fit.history["epochs"]]


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
    assert _start("mirrored", bank, tmp_path / "two.npz").wait(_SECONDS) == 0
    _same(tmp_path / "two.npz", bank)


@pytest.mark.slow
def test_two_workers_end_with_the_same_weights(bank, tmp_path) -> None:
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    workers = [f"127.0.0.1:{port}" for port in ports]
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        result = tmp_path / f"{index}.npz"
        processes.append(_start("multi_worker", bank, result, TF_CONFIG=json.dumps(task)))
    try:
        assert [process.wait(_SECONDS) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
    with np.load(tmp_path / "0.npz") as first, np.load(tmp_path / "1.npz") as second:
        for name in first.files:
            np.testing.assert_array_equal(first[name], second[name])
    _same(tmp_path / "0.npz", bank)


def test_multi_worker_without_a_cluster_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {}}')
    with pytest.raises(ConfigError, match="TF_CONFIG in the environment"):
        distribution.prepare("multi_worker")
    monkeypatch.delenv("TF_CONFIG")
    with pytest.raises(ConfigError, match="Received: 'nothing'"):
        distribution.prepare("multi_worker")


def test_the_dtype_policy_is_restored() -> None:
    import keras

    before = keras.config.dtype_policy()
    with distribution.policy("mixed_bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.dtype_policy() == before
