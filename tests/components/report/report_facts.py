"""Made-up facts of a run, as `imgpipe.components.report.facts.collect` returns them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from imgpipe.components.common.prediction import StoredPrediction
from imgpipe.components.common.shares import wilson
from imgpipe.components.report.metrics import Table
from imgpipe.components.report.section import RunState
from tests.images import encoded

BLESSED = RunState(
    "blessed", "blessed: validation accuracy 0.950 reaches 0.9", "", "/out/runs/1/run.log", ""
)


def jpeg(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (320, 200)) -> bytes:
    """Return a JPEG of one colour; `size` is (width, height)."""
    return encoded(Image.new("RGB", size, colour), "JPEG")


def measured(classes: Sequence[str], count: int, accuracy: float, seed: int) -> Table:
    """Return a table of `count` predictions of one split with about this accuracy."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        label = i % len(classes)
        guess = label if random.random() < accuracy else (label + 1) % len(classes)
        share = 0.2 / len(classes)
        of_label = 0.8 + share if guess == label else share
        path = f"{classes[label]}/{i}.jpg"
        rows.append(StoredPrediction(path, f"{i:064x}", label, guess, 0.8 + share, of_label))
    return Table(classes, rows)


def reject(i: int, reason: str = "too_small", **values: Any) -> dict[str, Any]:
    """Return a line of the quarantine's manifest, with these changes."""
    line = {
        "path": f"rock/bad-{i}.jpg",
        "label": "rock",
        "split": "train",
        "image_hash": f"bad{i}",
        "reason": reason,
        "detail": f"{i} x 4 pixels, the shorter side is under 16",
        "override": "lower judge.min_side",
        "kept_copy": "",
        "stored": f"{reason}/bad{i}.jpg",
    }
    return line | values


def facts(
    classes: Sequence[str] = ("paper", "rock", "scissors"),
    rejects: Sequence[dict[str, Any]] = (),
    accuracy: float = 0.95,
) -> dict[str, Any]:
    """Return the facts of a blessed run of these classes, rejected files and accuracy."""
    classes = list(classes)
    tables = {
        split: measured(classes, count, accuracy, seed)
        for seed, (split, count) in enumerate((("train", 90), ("validation", 60), ("test", 30)))
    }
    value = tables["validation"].summary()
    return {
        "settings": {
            "name": "rps",
            "source": "/photos",
            "vocabulary": classes,
            "cross_validate": 5,
            "backbone": "efficientnet_lite0",
            "image_size": 224,
            "fingerprint": "5e1f" * 16,
            "seeds": {"split": 0, "train": 7},
            "changed": {"data.source": "/photos", "train.seed": 7},
        },
        "identity": {
            "date": "2026-01-31 14:05:59 +0100",
            "command": "imgpipe run /photos --set train.seed=7",
            "packages": {"python": "3.11.9", "keras": "3.15.0"},
        },
        "data": {
            "in": 180 + len(rejects),
            "kept": 180,
            "rejected": len(rejects),
            "repaired": 2,
            "repaired_by": {"orientation": 2},
            "moved": {},
            "overrides": {"applied": {}, "relabelled": {}, "unknown": []},
            "by_reason": dict(Counter(row["reason"] for row in rejects)),
            "by_split": {
                split: dict.fromkeys(classes, count)
                for split, count in (("train", 41), ("validation", 12), ("test", 7))
            },
            "warnings": [
                {
                    "reason": "misnamed",
                    "count": 1,
                    "details": {"PNG": 1},
                    "paths": ["rock/p.jpg"],
                    "image_hashes": ["misnamed"],
                }
            ],
            "notes": [{"kind": "hidden", "count": 1, "detail": "", "paths": [".DS_Store"]}],
        },
        "rejects": list(rejects),
        "data_gate": {"blessed": True, "reasons": [], "accepted_schema": ""},
        "bank": {
            "dim": 1280,
            "note": "",
            "bytes": 900_000,
            "budget_bytes": 2**30,
            "backbone": "efficientnet_lite0",
            "image_size": 224,
            "views": 4,
            "precision": "float32",
            "forward_passes": 610,
            "reused": 70,
        },
        "near": {
            "groups": 1,
            "pictures": 2,
            "radius": 48,
            "set_aside": {},
            "rows": [
                {
                    "size": 2,
                    "members": [
                        {
                            "path": "rock/again.jpg",
                            "label": "rock",
                            "split": "train",
                            "image_hash": "again",
                            "stays": False,
                            "detail": "like rock/8.jpg: 3 of 256 bits differ",
                        }
                    ],
                }
            ],
        },
        "suspects": {
            "images": 180,
            "folds": 5,
            "disagree": 3,
            "rows": [
                {
                    "path": "rock/9.jpg",
                    "split": "train",
                    "label": "rock",
                    "looks_like": "paper",
                    "margin": 0.8,
                    "image_hash": "doubt",
                }
            ],
        },
        "training": {
            "epochs": [
                {
                    "epoch": i,
                    "loss": 1 / i,
                    "accuracy": 1 - 0.5 / i,
                    "val_loss": 1.1 / i,
                    "val_accuracy": 1 - 0.6 / i,
                }
                for i in range(1, 11)
            ],
            "best_epoch": 7,
            "stopped": "plateau",
            "seconds": 4.2,
        },
        "baseline": {"version": 3, "compared": True, "why": ""},
        "serving": [
            {"name": "answers as the trained model", "passed": True, "detail": "16 images"},
            {"name": "rejects invalid input", "passed": True, "detail": "INVALID_ARGUMENT"},
        ],
        "cross_validation": {
            "folds": 5,
            "mean": 0.948,
            "std": 0.021,
            "min": 0.92,
            "max": 0.975,
            "images": 150,
            "correct": 142,
            "groups": 131,
            "alike_apart": 7,
            "per_fold": [
                {
                    "images": 30,
                    "correct": 28,
                    "accuracy": 28 / 30,
                    "trained_on": 105,
                }
            ]
            * 5,
        },
        "push": {"status": "pushed", "version": "4", "path": "/out/model/4", "refused_by": []},
        "metrics": {split: table.summary() for split, table in tables.items()},
        "confusion": {split: table.confusion() for split, table in tables.items()},
        "slices": [
            {
                "name": "format",
                "accuracy": 0.9,
                "rows": [
                    {"value": "JPEG", "count": 70, "correct": 69},
                    {"value": "PNG", "count": 20, "correct": 12},
                ],
            }
        ],
        "mistakes": {split: table.mistakes() for split, table in tables.items()},
        "gate": {
            "split": "validation",
            "threshold": 0.9,
            "value": value["accuracy"],
            "count": value["count"],
            "correct": value["correct"],
            "ci95": list(wilson(value["correct"], value["count"])),
            "baseline": 0.961,
            "blessed": True,
            "failed": [],
            "reasons": [],
            "rulings": [
                {"rule": "threshold", "text": "mean accuracy 0.948", "reason": "", "margin": 0.048},
                {"rule": "serving", "text": "the exported model answers", "reason": "it does not"},
            ],
            "unlike": [
                {
                    "class": "rock",
                    "new": 20,
                    "unlike": 12,
                    "images": [{"path": "rock/cat.jpg", "label": "rock", "image_hash": "unlike"}],
                }
            ],
            "figures": "mean accuracy 0.948 ± 0.021 over 5 folds",
        },
    }
