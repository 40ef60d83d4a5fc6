"""Whole runs in processes of their own, and their results in canonical order."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.models import names
from tests.e2e.case import newest_artifact

_SETTINGS = (
    *("model.image_size=96", "course.views.count=1", "course.epochs=4", "run.name=engines"),
    *("evaluate.threshold=0.5", "gate.max_rejected_share=0.5", "course.fine_tune.mode=off"),
    "evaluate.tfma=true",
)
#: Tolerance of features, whose last bits differ because the batches are divided differently.
_TOLERANCE = 2e-2


def start(photos: Path, out: Path, *assignments: str) -> subprocess.Popen[bytes]:
    """Start `imgpipe run`, whose output is written to a text file beside `out`."""
    sets = [part for one in (*_SETTINGS, *assignments) for part in ("--set", one)]
    command = [sys.executable, "-m", "imgpipe.pipeline.cli", "run", str(photos)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".txt").open("wb") as text:
        return subprocess.Popen([*command, "--out", str(out), *sets], stdout=text, stderr=text)


def outcome(process: subprocess.Popen[bytes], out: Path, seconds: float = 3000) -> dict[str, Any]:
    """Wait for a run, assert that it succeeded, and return its results as `read` does."""
    try:
        code = process.wait(timeout=seconds)
    finally:
        process.kill()
    assert code == 0, out.with_suffix(".txt").read_text(errors="replace")[-3000:]
    return read(out)


def read(out: Path) -> dict[str, Any]:
    """Return the Examples, features and status in an output folder, in canonical order."""
    from imgpipe.components.common.storage.records import iterate, serialise

    def examples(component: str, output: str) -> list[Any]:
        uri = str(newest_artifact(out, component, output))
        return [example for split in names.SPLITS for example in iterate(uri, split)]

    quarantine = newest_artifact(out, "ImageFilter", "quarantine")
    lines = (quarantine / "findings.jsonl").read_text().splitlines()
    findings = [json.loads(line) for line in lines]
    rejects = [finding for finding in findings if finding["severity"] == "reject"]
    bank = examples("FeatureBank", "features")
    return {
        "ingested": sorted(map(serialise, examples("ImageExampleGen", "examples"))),
        "kept": sorted(map(serialise, examples("ImageFilter", "examples"))),
        "rejects": sorted(rejects, key=lambda reject: reject["path"]),
        "features": dict(sorted(map(_features, bank))),
        "status": json.loads(max(out.glob("runs/*/result.json")).read_text())["status"],
        "tfma": _tfma(out),
        "leftovers": [str(path) for path in out.glob("runs/*/artifacts/**/.tmp-*")],
    }


def _tfma(out: Path) -> dict[str, float]:
    """Return the metrics of all images that TFMA has written, by name."""
    import tensorflow_model_analysis as tfma

    uri = newest_artifact(out, "ImageEvaluator", "evaluation")
    [overall] = (
        record for record in tfma.load_metrics(str(uri)) if not record.slice_key.single_slice_keys
    )
    return {
        entry.key.name: entry.value.double_value.value for entry in overall.metric_keys_and_values
    }


def _features(example: Any) -> tuple[tuple[bytes, int], np.ndarray]:
    """Return (content hash, view) and the features of an Example of the feature bank."""
    from imgpipe.components.common.storage import records

    key = records.raw(example, names.IMAGE_HASH), records.integer(example, names.VIEW)
    return key, np.frombuffer(records.raw(example, names.FEATURES), "<f2").astype(np.float32)


def require_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Assert that two outcomes are equal, and their features nearly so."""
    assert expected["ingested"] and expected["rejects"]
    assert not found["leftovers"]
    for part in ("ingested", "kept", "rejects", "status"):
        assert found[part] == expected[part], part
    assert found["tfma"]["example_count"] == expected["tfma"]["example_count"] > 0
    assert found["features"].keys() == expected["features"].keys()
    for key, vector in expected["features"].items():
        np.testing.assert_allclose(found["features"][key], vector, atol=_TOLERANCE, rtol=_TOLERANCE)
