"""What a person should know about the result of a run, besides what was found in its images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgpipe.components.common.formatting import interval_text, join_names, plural
from imgpipe.components.image_filter.data_summary import DIVIDED_FAMILIES
from imgpipe.components.image_filter.findings import joined
from imgpipe.components.run_record.facts import folds_of
from imgpipe.models.features.folds import FEW_IMAGES, FOLDS
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.names import feature_names as names

if TYPE_CHECKING:
    from imgpipe.components.image_evaluator.decision import Decision
    from imgpipe.components.run_record.facts import Facts

_NAMED = 4  # classes that a finding names


def all_findings(facts: Facts) -> list[Finding]:
    """Return the findings about the images, and those about the result; see `run_findings`."""
    data = facts["data"]
    return joined(data["findings"] if data is not None else (), run_findings(facts))


def run_findings(facts: Facts) -> list[Finding]:
    """Return the findings about the result of a run.

    Args:
        facts: Facts from `imgpipe.components.run_record.collect.collect`.
    """
    return [
        *_few_images(facts),
        *_unlearned(facts),
        *_never_right(facts),
        *_test_below(facts),
        *_divided_families(facts),
        *_bank(facts),
    ]


def _few_images(facts: Facts) -> Iterator[Finding]:
    """Say how much one image of a small validation split changes the accuracy."""
    gate: Decision | None = facts["gate"]
    count = gate["decided_by"]["count"] if gate is not None else 0
    if not 0 < count < FEW_IMAGES or folds_of(facts) is not None:
        return
    training = facts["training"]
    # Folds evaluate solved heads, and automatic ones lack independent images.
    solved = training is not None and training["solution"] and not training["fine_tune"]
    remedies = ["add images, or give more of them to validation with split.validation"]
    if solved and not facts["settings"]["cross_validate"]:
        remedies = [
            f"set evaluate.cross_validate = {FOLDS}, which evaluates on all images of train and "
            "validation instead and takes a few seconds"
        ]
    yield make_finding(
        "few_images",
        f"the validation split has only {plural(count, 'image')}, so each of them changes the "
        f"accuracy by {100 / count:.1f} percentage points",
        remedies,
        count=count,
    )


def _unlearned(facts: Facts) -> Iterator[Finding]:
    """Name the classes of which all images are in one fold, so that none of them can be right."""
    folds = folds_of(facts)
    if folds is None or not folds["unlearned"]:
        return
    classes = facts["settings"]["vocabulary"]
    named = join_names([classes[label] for label, _ in folds["unlearned"]], _NAMED)
    images = sum(count for _, count in folds["unlearned"])
    yield make_finding(
        "unlearned",
        f"no fold could learn {named}, because all images of such a class are in one fold, as the "
        f"images of one group always are: {plural(images, 'image')} counted as wrong",
        [
            f"add images of {named} in other groups",
            "let the validation split decide with evaluate.cross_validate = 0",
        ],
        count=images,
    )


def _never_right(facts: Facts) -> Iterator[Finding]:
    """Name the classes of which no image was right, where the gate did not refuse the model."""
    gate: Decision | None = facts["gate"]
    deciding = facts["deciding"]
    if gate is None or deciding is None or "class_recall" in gate["failed"]:
        return
    folds = folds_of(facts)
    unlearned = {label for label, _ in folds["unlearned"]} if folds is not None else set()
    never = {
        name: answers["count"]
        for label, (name, answers) in enumerate(deciding["per_class"].items())
        if answers["count"] and not answers["correct"] and label not in unlearned
    }
    if not never:
        return
    named = join_names([*never], _NAMED)
    images = sum(never.values())
    yield make_finding(
        "never_right",
        f"no image of {named} was answered correctly (0 of {images:,}), so that the model may not "
        f"know {'this class' if len(never) == 1 else 'these classes'}",
        [
            f"add images of {named}",
            "move images of classes that the model need not know out of the source",
        ],
        count=images,
    )


def _test_below(facts: Facts) -> Iterator[Finding]:
    """Say that the test accuracy is surely below the accuracy that decided."""
    gate: Decision | None = facts["gate"]
    test = facts["metrics"].get(names.TEST)
    if gate is None or test is None or test["accuracy"] is None:
        return
    decided = gate["decided_by"]
    if decided["accuracy"] is None or test["ci95"][1] >= decided["ci95"][0]:
        return
    yield make_finding(
        "test_below",
        f"the test accuracy {test['accuracy']:.3f} ({interval_text(test['ci95'])}) is surely below "
        f"the accuracy {decided['accuracy']:.3f} ({interval_text(decided['ci95'])}) that decided, "
        "so that new images may be answered worse than the verdict says",
        ["look at the test images, which may be of another kind than the others"],
        title="the test accuracy is surely below the accuracy that decided",
        decides=True,
    )


def _divided_families(facts: Facts) -> Iterator[Finding]:
    """Say in the verdict which accuracy to believe if the source's splits divide families."""
    for split, summary in facts["metrics"].items():
        unseen = summary["unseen"]
        if unseen is None:
            continue
        title = (
            f"train has images of the families of all images of {split}, so that its accuracy "
            f"{summary['accuracy']:.3f} says little about new ones"
        )
        if unseen["accuracy"] is not None:
            seen = plural(summary["count"] - unseen["count"], "image")
            title = (
                f"train has images of the same families as {seen} of {split}: believe the accuracy "
                f"{unseen['accuracy']:.3f} on its other {plural(unseen['count'], 'image')}, not "
                f"{summary['accuracy']:.3f}"
            )
        yield make_finding(DIVIDED_FAMILIES, "", title=title, decides=True)


def _bank(facts: Facts) -> Iterator[Finding]:
    """Say that the feature bank holds less than was asked for."""
    bank = facts["bank"]
    if bank is not None and "bank.budget" in bank["note"]:
        yield make_finding("bank", bank["note"])
