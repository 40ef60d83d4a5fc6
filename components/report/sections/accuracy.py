"""How well the model answers: by split, fold, class and kind of image, and its mistakes."""

from __future__ import annotations

from typing import Any

from imgpipe.components.common.answer_table import ClassMetrics
from imgpipe.components.common.formatting import capped, plural
from imgpipe.components.image_evaluator.decision import FOLDS
from imgpipe.components.report.pictures.thumbnails import cam_key
from imgpipe.components.report.section import Absent, Context, Section, SectionContent
from imgpipe.components.run_record.facts import Facts, folds_of
from imgpipe.components.run_record.slices import Slice
from imgpipe.models.names import feature_names as names


def build_figures(context: Context) -> SectionContent:
    """Return one row for what decided, and one for the test split, each with its interval."""
    roles = {
        FOLDS: _role_of_folds(context),
        names.VALIDATION: _role_of_validation(context),
        names.TEST: "the exported model; it decided nothing",
    }
    rows = [
        {"split": split, "role": roles[split], **summary}
        for split, summary in context.facts["metrics"].items()
    ]
    return {"rows": rows} if rows else context.absent("No image was classified by a trained model")


def _role_of_folds(context: Context) -> str:
    """Say what the folds were used for."""
    folds = folds_of(context.facts)
    count = folds["folds"] if folds is not None else 0
    return (
        f"{count} models, each for the images of train and validation that it has not seen; they "
        "decided whether the exported model is blessed"
    )


def _role_of_validation(context: Context) -> str:
    """Say what the validation split was used for."""
    training = context.facts["training"]
    task = "selected the epoch and calibrated the probabilities"
    if training is None:
        pass
    elif len(training["search"] or ()) > 1:
        task = "selected the network and the epoch, and calibrated the probabilities"
    elif training["solution"] and not training["fine_tune"]:
        task = "calibrated the probabilities"
    return f"the exported model; it {task}, and decided whether the model is blessed"


FIGURES = Section("figures", "Accuracy and calibration", build_figures, order=130, numbers=True)


def build_folds(context: Context) -> SectionContent:
    """Return the mean and one row for each fold."""
    folds = folds_of(context.facts)
    training = context.facts["training"]
    if training is None:
        return context.absent("No folds were trained")
    if folds is None:
        return Absent(
            "The validation split decided. Folds do where it has few images and a solved head "
            "is published, or where evaluate.cross_validate gives their number."
        )
    apart = folds["alike_apart"]
    return {
        "folds": folds,
        "rows": folds["per_fold"],
        "tuned": training["fine_tune"] is not None,
        "learned": names.VALIDATION in training["learned"],
        "apart": plural(apart, "image") if apart else "",
        "few": plural(folds["validation_images"], "image") if folds["automatic"] else "",
    }


CROSS_VALIDATION = Section("folds", "Cross-validation", build_folds, order=132, numbers=True)


def build_per_class(context: Context) -> SectionContent:
    """Return one row for each class; of many, those with the lowest F1."""
    tables = {split: metrics["per_class"] for split, metrics in context.facts["metrics"].items()}
    if not tables:
        return context.absent("No image was classified by a trained model")
    classes = context.vocabulary
    rows: list[dict[str, Any]] = [
        {"number": i, "name": name, "figures": [table[name] for table in tables.values()]}
        for i, name in enumerate(classes, 1)
    ]
    shown, note = capped(rows, lambda row: _f1(row["figures"][0]))
    return {"splits": list(tables), "rows": shown, "note": note}


def _f1(figures: ClassMetrics) -> float:
    """Return the F1 as a sort key; a class without images comes last."""
    return figures["f1"] if figures["count"] else 2.0


PER_CLASS = Section("per_class", "Classes", build_per_class, order=134, numbers=True)


def build_slices(context: Context) -> SectionContent:
    """Return one row for each slice, with its interval and whether it is clearly weaker."""
    slices = context.facts["slices"]
    if not slices:
        return context.absent("The images differ in nothing that could divide them into slices")
    groups = [
        {"name": group["name"], "rows": [_slice(row, group["accuracy"]) for row in group["rows"]]}
        for group in slices
    ]
    return {"groups": groups, "several": len(context.facts["metrics"]) > 1}


def _slice(row: Slice, usual: float) -> dict[str, Any]:
    return {
        **row,
        "weak": row["ci95"][1] < usual,  # even the upper end of the interval is below the average
    }


SLICES = Section("slices", "Accuracy by slice", build_slices, order=136, numbers=True)


#: Mistakes that are shown.
MOST_MISTAKES = 24


def build_mistakes(context: Context) -> SectionContent:
    """Return the most confident mistakes, those between the same classes side by side."""
    deciding = context.facts["deciding"]
    if deciding is None:
        return context.absent("No image was classified by a trained model")
    by_pair: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in deciding["mistakes"][:MOST_MISTAKES]:
        cam = context.thumbnails.uri(cam_key(row["image_hash"]))
        of_pair = by_pair.setdefault((row["label"], row["predicted"]), [])
        of_pair.append(context.with_image(row) | {"cam": cam})
    return {
        "rows": [row for rows in by_pair.values() for row in rows],
        "wrong": deciding["count"] - deciding["correct"],
        "count": deciding["count"],
    }


def _of_mistakes(facts: Facts) -> set[str]:
    mistakes = facts["deciding"]["mistakes"] if facts["deciding"] is not None else []
    return {mistake["image_hash"] for mistake in mistakes[:MOST_MISTAKES]}


MISTAKES = Section(
    "mistakes", "Confident mistakes", build_mistakes, order=128, numbers=True, hashes=_of_mistakes
)
