"""Made-up results of a run, from the declarations of its parts."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.image_row import FileFinding, PlacedImage
from imgpipe.components.data_gate.rules import DataDecision
from imgpipe.components.image_evaluator.decision import (
    BaselineState,
    DecidingAccuracy,
    Decision,
    Ruling,
    ServingCheck,
)
from imgpipe.components.image_filter.findings import title_of
from imgpipe.components.image_filter.summary import DataSummary, Families, of_counts
from imgpipe.components.model_pusher.versions import Push
from imgpipe.components.run_record.doubtful_labels import DoubtfulLabel, DoubtfulLabels
from imgpipe.components.run_record.metrics import (
    AnsweredBy,
    JudgedAnswers,
    SliceGroup,
    SplitMetrics,
    judged_answers,
    metrics,
)
from imgpipe.components.run_record.result import Result, new
from imgpipe.components.run_record.run_folder import Identity
from imgpipe.components.run_record.shown_images import Gallery, ImageMap, MapImage
from imgpipe.models.features.bank import BankFacts
from imgpipe.models.finding import Example, Fate, Finding, in_files, make_finding
from imgpipe.models.head.solved_head import Solution
from imgpipe.models.training.history import Epoch, Fold, Folds, History
from tests.answer_tables import answer, figures, table
from tests.declared import made
from tests.images import encoded


def jpeg(size: tuple[int, int] = (320, 200)) -> bytes:
    """Return a red JPEG; `size` is (width, height)."""
    return encoded(Image.new("RGB", size, (200, 30, 30)), "JPEG")


def answers(classes: Sequence[str], count: int, accuracy: float, seed: int) -> AnswerTable:
    """Return `count` answers with about this accuracy."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        label = i % len(classes)
        guess = label if random.random() < accuracy else (label + 1) % len(classes)
        share = 0.2 / len(classes)
        sure = 0.8 + share - (0.02 if guess != label and i % 2 else 0)
        of_label = sure if guess == label else share
        path = f"{classes[label]}/{i}.jpg"
        rows.append(answer(i, label, guess, sure, of_label, path=path))
    return table(classes, *rows)


def deciding(
    classes: Sequence[str], count: int, accuracy: float, judged_by: AnsweredBy = "folds"
) -> JudgedAnswers:
    """Return `count` answers that decide, of about this accuracy."""
    return judged_answers(judged_by, 0.9, answers(classes, count, accuracy, 3))


def gallery(name: str) -> Gallery:
    """Return twelve images of a class, of which three are not typical."""
    rows = [
        PlacedImage(path=f"{name}/{i}.jpg", image_hash=f"{name}-{i}", label=name, split="train")
        for i in range(12)
    ]
    return made(Gallery, name=name, count=60, sample=rows[:9], least=rows[9:], typical=rows[:3])


def grid(classes: Sequence[str]) -> ImageMap:
    images = [
        made(
            MapImage,
            image_hash=f"map-{i}",
            label=i % len(classes),
            column=i % 8,
            row=i // 8,
            right=i % 5 > 0,
        )
        for i in range(30)
    ]
    return made(ImageMap, columns=8, rows=4, images=images)


def reject(i: int, reason: str = "too_small", **values: Any) -> FileFinding:
    """Return a line of the quarantine's manifest, with these changes."""
    line = {
        "path": f"rock/bad-{i}.jpg",
        "label": "rock",
        "split": "train",
        "image_hash": f"bad{i}",
        "reason": reason,
        "detail": f"{i} x 4 pixels, the shorter side is under 16",
        "override": "lower judge.min_side",
        "stored": f"{reason}/bad{i}.jpg",
    }
    return made(FileFinding, **line | values)


def in_file(
    fate: Fate, reason: str, path: str, detail: str = "", image_hash: str = "", count: int = 1
) -> Finding:
    """Return a finding in some files, of which one is an example."""
    example: Example = {"path": path, "detail": detail, "image_hash": image_hash}
    return in_files(fate, make_finding(reason, "", title=title_of(reason), count=count), [example])


def data_summary(
    classes: Sequence[str] = ("paper", "rock", "scissors"),
    rejected: Sequence[FileFinding] = (),
    **values: Any,
) -> DataSummary:
    """Return the summary of 180 kept images of these classes and of rejected files.

    The findings are those of `values`, or some usual ones, and those that follow from the counts.
    """
    usual = [
        in_file("repaired", "transcoded", "a/b.tif", "TIFF"),
        in_file("warned", "dark", "rock/p.jpg", "brightness 0.02", "dark"),
        in_file("noted", "hidden", ".DS_Store"),
    ]
    rejected = Counter(row["reason"] for row in rejected)
    usual += [
        in_file("rejected", reason, "rock/bad-1.jpg", count=n) for reason, n in rejected.items()
    ]
    found = values.pop("findings", usual)
    fields = {
        "found": 180 + len(rejected),
        "left_out": {},
        "in": 180 + len(rejected),
        "kept": 180,
        "rejected": len(rejected),
        "repaired": 2,
        "by_reason": dict(rejected),
        "by_split": {
            split: dict.fromkeys(classes, count)
            for split, count in (("train", 41), ("validation", 12), ("test", 7))
        },
        "families": made(
            Families, independent={"train": 123, "validation": 36, "test": 21}, alike_apart=7
        ),
    }
    counts = made(DataSummary, **fields | values)
    return {**counts, "findings": [*found, *of_counts(counts)]}


def history(**values: Any) -> History:
    """Return the history of a training of ten epochs, with these changes."""
    fields = {
        "epochs": [
            made(
                Epoch,
                epoch=i,
                loss=1 / i,
                accuracy=1 - 0.5 / i,
                val_loss=1.1 / i,
                val_accuracy=1 - 0.6 / i,
            )
            for i in range(1, 11)
        ],
        "best_epoch": 7,
        "stopped": "plateau",
        "seconds": 4.2,
        "trained": "head",
        "image_size": 224,
        "tells_unlike": True,
        "learned": {"train": 123},
        "cross_validation": folds(),
    }
    return made(History, **fields | values)


def solved() -> History:
    """Return the history of a head that was solved, which 480 images would bring to 0.9."""
    accuracies = ((36, 0.561), (72, 0.707), (145, 0.801), (290, 0.867))
    curve = [{"images": images, "accuracy": accuracy} for images, accuracy in accuracies]
    solution = made(
        Solution,
        folds=5,
        images=362,
        accuracy=0.867,
        standard_error=0.018,
        learning_curve=curve,
        gain_error=0.02,
    )
    return history(stopped="solved", solution=solution, epochs=[made(Epoch, epoch=1)])


def folds(**values: Any) -> Folds:
    """Return the result of five folds, with these changes."""
    fold = made(Fold, images=30, correct=28, accuracy=28 / 30, trained_on=105)
    fields = {
        "folds": 5,
        "std": 0.021,
        "min": 0.92,
        "max": 0.975,
        "images": 150,
        "correct": 142,
        "groups": 131,
        "per_fold": [fold] * 5,
    }
    return made(Folds, **fields | values)


def decided_by(correct: int, count: int, kind: str = "folds") -> DecidingAccuracy:
    """Return the accuracy of five folds, or of another kind, on so many images."""
    by_folds = {"folds": 5, "std": 0.021} if kind == "folds" else {}
    return made(DecidingAccuracy, kind=kind, **by_folds, **figures(correct, count))


def decision(decided: DecidingAccuracy, **values: Any) -> Decision:
    """Return the decision that blesses the model of this accuracy, with these changes."""
    fields = {
        "threshold": 0.9,
        "decided_by": decided,
        "baseline": 0.961,
        "blessed": True,
        "publishing": [],
        "rulings": [
            made(Ruling, rule="threshold", text="cross-validation accuracy 0.948", state="passed"),
            made(Ruling, rule="serving", text="the model", state="refused", reason="it does not"),
        ],
        "unlike": [
            {
                "class": "rock",
                "new": 20,
                "unlike": 12,
                "images": [
                    made(PlacedImage, path="rock/cat.jpg", label="rock", image_hash="unlike")
                ],
            }
        ],
        "figures": "cross-validation accuracy 0.948",
    }
    return made(Decision, **fields | values)


def result(
    classes: Sequence[str] = ("paper", "rock", "scissors"),
    rejected: Sequence[FileFinding] = (),
    accuracy: float = 0.95,
) -> Result:
    """Return the result of a run of these classes and rejected files that folds have blessed."""
    measured: dict[str, SplitMetrics] = {
        name: metrics(answers(classes, count, accuracy, seed))
        for name, count, seed in (("folds", 150, 3), ("test", 30, 2))
    }
    every = measured["folds"]
    doubtful = made(
        DoubtfulLabel,
        path="rock/9.jpg",
        split="train",
        label=classes[1 % len(classes)],
        looks_like=classes[0],
        wrong=0.8,
        image_hash="doubt",
    )
    parts = {
        "status": "blessed",
        "verdict": "blessed: validation accuracy 0.950 reaches 0.9",
        "out": "/work/out",
        "folder": "runs/20260131-140559",
        "log": "runs/20260131-140559/run.log",
        "name": "rps",
        "source": "/photos",
        "classes": list(classes),
        "cross_validate": 5,
        "backbone": "efficientnet_lite0",
        "image_size": 224,
        "fingerprint": "5e1f" * 16,
        "seeds": {"split": 0, "train": 7},
        "changed": {"data.source": "/photos", "train.seed": 7},
        "identity": made(
            Identity,
            date="2026-01-31 14:05:59 +0100",
            command="imgpipe run /photos --set train.seed=7",
            packages={"python": "3.11.9", "keras": "3.15.0"},
        ),
        "data": data_summary(classes, rejected),
        "rejected": list(rejected),
        "quarantine": "runs/20260131-140559/artifacts/ImageFilter/quarantine/3",
        "data_gate": made(DataDecision, blessed=True),
        "bank": made(
            BankFacts,
            sizes=[1280],
            image_size=224,
            precision="float32",
            forward_passes=610,
            reused=70,
        ),
        "suspects": made(DoubtfulLabels, images=180, disagree=3, doubtful=1, rows=[doubtful]),
        "training": history(),
        "baseline": made(BaselineState, version=3, compared=True),
        "serving": [
            made(
                ServingCheck, name="answers as the trained model", passed=True, detail="16 images"
            ),
            made(
                ServingCheck, name="rejects invalid input", passed=True, detail="INVALID_ARGUMENT"
            ),
        ],
        "push": made(Push, status="pushed", version="4", path="model/4"),
        "metrics": measured,
        "answers": deciding(classes, 150, accuracy),
        "galleries": [gallery(name) for name in classes],
        "map": grid(classes),
        "slices": [
            made(
                SliceGroup,
                name="format",
                accuracy=0.9,
                rows=[
                    {"value": "JPEG", **figures(69, 70)},
                    {"value": "PNG", **figures(12, 20)},
                ],
            )
        ],
        "gate": decision(decided_by(every["correct"], every["count"])),
    }
    return new(**parts)


def by_validation() -> Result:
    """Return the result of a run about which 60 images of validation decided, not the folds."""
    found = result()
    classes = found["classes"]
    every = metrics(answers(classes, 60, 0.95, 1))
    return {
        **found,
        "cross_validate": 0,
        "training": history(cross_validation=None),
        "metrics": {"validation": every, "test": found["metrics"]["test"]},
        "answers": deciding(classes, 60, 0.95, "validation"),
        "gate": decision(decided_by(every["correct"], every["count"], "validation")),
    }
