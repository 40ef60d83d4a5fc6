"""Imports, work ahead, what a machine lacks, and two devices of one process."""

import errno
import os
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from imgpipe.models import names
from imgpipe.models.features.bank import read_rows
from imgpipe.models.machine import process
from imgpipe.models.machine.process import computed_ahead
from tests import python_program
from tests.models.banks import fit_head, write_bank
from tests.network_settings import network_settings


def test_results_come_in_order_and_few_are_computed_ahead():
    begun: list[int] = []

    def squared(number: int) -> int:
        begun.append(number)
        time.sleep(0.01 / number)  # the later ones end first
        return number**2

    results = computed_ahead(squared, range(1, 21), threads=4, ahead=4)
    assert next(results) == 1
    assert len(begun) <= 5
    assert list(results) == [number**2 for number in range(2, 21)]


def test_the_first_error_of_an_item_ends_the_work():
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
def test_batches_are_computed_with_onednn_unless_decided(monkeypatch, given, imported, expected):
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
def test_a_lack_of_memory_or_disk_is_told_from_other_errors(error, lack):
    assert process.lacking(error) == lack


_SETTINGS = {
    "optimizer": "adam",
    "epochs": 5,
    "batch_size": 20,
    "dropout": 0.0,
    "learning_rate": 0.01,
}
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
from tests.network_settings import network_settings
from tests.models.machine.test_process import _SETTINGS
rows = [read_rows(bank, split, 3) for split in (names.TRAIN, names.VALIDATION)]
settings = network_settings(**_SETTINGS, strategy="mirrored")
with process.device_scope("mirrored"):
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
fit = fit_head(*rows, 3, settings)
losses = [epoch["loss"] for epoch in fit.stage["epochs"]]
np.savez(result, *fit.layers.get_weights(), replicas=replicas, losses=losses)
"""


@pytest.mark.slow
def test_two_devices_reach_the_weights_of_one(tmp_path):
    """The gradient of a step is that of the whole batch."""
    bank, result = write_bank(tmp_path / "bank"), tmp_path / "two.npz"
    python_program.ran(sys.executable, "-c", _PROGRAM, bank, result, CUDA_VISIBLE_DEVICES="")
    rows = [read_rows(bank, split, 3) for split in (names.TRAIN, names.VALIDATION)]
    fit = fit_head(*rows, 3, network_settings(**_SETTINGS))
    with np.load(result) as found:
        assert found["replicas"] == 2
        losses = [epoch["loss"] for epoch in fit.stage["epochs"]]
        np.testing.assert_allclose(found["losses"], losses, rtol=1e-3)
        for place, weight in enumerate(fit.layers.get_weights()):
            np.testing.assert_allclose(found[f"arr_{place}"], weight, atol=1e-3)
