"""Tests that the code which decides a result is in the fingerprint of the code that computes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imgpipe.pipeline import inputs


@pytest.fixture
def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the source code, which the tests may change and which is fingerprinted."""
    for folder in ("components", "models", "serving"):
        shutil.copytree(inputs.ROOT / folder, tmp_path / folder)
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "file",
    [
        "models/export/litert.py",
        "models/training/cross_validation.py",
        "models/training/training_loop.py",
        "models/preprocess.py",
        "components/lite_exporter/component.py",
        "components/cross_validator/component.py",
    ],
)
def test_changed_code_of_the_gates_changes_their_fingerprint(product: Path, file: str):
    before = inputs.source_hash(*inputs.GATE_CODE, packages=inputs.GATE_PACKAGES)
    (product / file).write_text((product / file).read_text() + "\n# changed\n")
    after = inputs.source_hash(*inputs.GATE_CODE, packages=inputs.GATE_PACKAGES)
    assert before != after


@pytest.mark.parametrize(
    "file",
    [
        "components/predictor/component.py",
        "components/loaded_model.py",
        "components/serving_validator/component.py",
        "serving/server/runtimes/runtime.py",
    ],
)
def test_changed_code_that_answers_changes_the_fingerprint_of_the_answers(product: Path, file: str):
    """ServingValidator and Predictor have it as a parameter, so that they are executed again."""
    before = inputs.source_hash(*inputs.SERVING_CODE)
    (product / file).write_text((product / file).read_text() + "\n# changed\n")
    assert inputs.source_hash(*inputs.SERVING_CODE) != before
