"""How a run ended: its findings, and the verdict in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgpipe.components.common.formatting import interval_text, join_names, plural
from imgpipe.components.image_filter.findings import joined, not_used, titles
from imgpipe.components.image_filter.summary import DIVIDED_FAMILIES
from imgpipe.components.run_record.result import folds_of, judged
from imgpipe.components.run_record.run_folder import step_name
from imgpipe.models import names
from imgpipe.models.features.folds import FEW_IMAGES, FOLDS
from imgpipe.models.finding import UNUSED, Finding, make_finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imgpipe.components.image_evaluator.decision import Decision, Ruling
    from imgpipe.components.run_record.metrics import SplitMetrics
    from imgpipe.components.run_record.result import Result, Status


_NAMED = 4  # classes that a finding names


def all_findings(result: Result) -> list[Finding]:
    """Return the findings about the images, and those about the result; see `run_findings`."""
    data = result["data"]
    return joined(data["findings"] if data is not None else (), run_findings(result))


def run_findings(result: Result) -> list[Finding]:
    """Return the findings about the result of a run."""
    gate = result["data_gate"]
    return [
        *(gate["changes"] if gate is not None else []),
        *_few_images(result),
        *_unlearned(result),
        *_never_right(result),
        *_test_below(result),
        *_divided_families(result),
        *_tells_no_unlike(result),
        *_bank(result),
    ]


def _few_images(result: Result) -> Iterator[Finding]:
    """Say how much one image of a small validation split changes the accuracy."""
    gate: Decision | None = result["gate"]
    count = gate["decided_by"]["count"] if gate is not None else 0
    if not 0 < count < FEW_IMAGES or folds_of(result) is not None:
        return
    training = result["training"]
    # Folds evaluate solved heads, and automatic ones lack independent images.
    solved = training is not None and training["solution"] and not training["fine_tune"]
    remedies = ["add images, or give more of them to validation with split.validation"]
    if solved and not result["cross_validate"]:
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


def _unlearned(result: Result) -> Iterator[Finding]:
    """Name the classes of which all images are in one fold, so that none of them can be right."""
    folds = folds_of(result)
    if folds is None or not folds["unlearned"]:
        return
    named = join_names([result["classes"][label] for label, _ in folds["unlearned"]], _NAMED)
    images = sum(count for _, count in folds["unlearned"])
    yield make_finding(
        "unlearned",
        f"no model of the cross-validation could learn {named}, because all images of such a class "
        f"are held out at once, as those of one group always are: {plural(images, 'image')} "
        "counted as wrong",
        [
            f"add images of {named} in other groups",
            "let the validation split decide with evaluate.cross_validate = 0",
        ],
        count=images,
    )


def _never_right(result: Result) -> Iterator[Finding]:
    """Name the classes of which no image was right, where the gate did not refuse the model."""
    gate: Decision | None = result["gate"]
    figures = judged(result)
    if gate is None or figures is None or "class_recall" in gate["failed"]:
        return
    folds = folds_of(result)
    unlearned = {label for label, _ in folds["unlearned"]} if folds is not None else set()
    never = {
        name: answers["count"]
        for label, (name, answers) in enumerate(figures["per_class"].items())
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


def _test_below(result: Result) -> Iterator[Finding]:
    """Say that the test accuracy is below the accuracy that decided by more than chance."""
    gate: Decision | None = result["gate"]
    test = result["metrics"].get(names.TEST)
    if gate is None or test is None or test["accuracy"] is None:
        return
    decided = gate["decided_by"]
    if decided["accuracy"] is None or test["ci95"][1] >= decided["ci95"][0]:
        return
    yield make_finding(
        "test_below",
        f"the test accuracy {test['accuracy']:.3f} ({interval_text(test['ci95'])}) is by more "
        f"than chance below the accuracy {decided['accuracy']:.3f} "
        f"({interval_text(decided['ci95'])}) that decided, so that new images may be answered "
        "worse than the verdict says",
        ["look at the test images, which may be of another kind than the others"],
        title="the test accuracy is by more than chance below the accuracy that decided",
        decides=True,
    )


def _divided_families(result: Result) -> Iterator[Finding]:
    """Say in the verdict which images are not counted if the source's splits divide families."""
    gate: Decision | None = result["gate"]
    for split, summary in result["metrics"].items():
        seen = summary["seen"]
        is_told = split == names.VALIDATION and gate is not None and not gate["decided_by"]["count"]
        if seen is None or is_told:
            continue
        images = plural(seen["count"], "image")
        title = f"{images} of {split} are not counted, because train has images of their families"
        yield make_finding(DIVIDED_FAMILIES, "", title=title, decides=True)


def _bank(result: Result) -> Iterator[Finding]:
    """Say that the feature bank holds less than was asked for."""
    bank = result["bank"]
    if bank is not None and "bank.budget" in bank["note"]:
        yield make_finding("bank", bank["note"])


def _tells_no_unlike(result: Result) -> Iterator[Finding]:
    """Say that the model answers for any image as if it were of one of its classes."""
    training = result["training"]
    if training is not None and not training["tells_unlike"]:
        sentence = "the model learned from too few images to mark those that are unlike all of them"
        ways = ["add images: from ten of each class on, it can"]
        yield make_finding("tells_no_unlike", sentence, ways)


def ended(result: Result, error: str = "", failed: str = "", interrupted: bool = False) -> Result:
    """Return a result with its status, its verdict and the findings about it.

    Args:
        result: Result from `run_record.collect.collect`.
        error: Why the run stopped, "" when it did not.
        failed: The component that stopped the run.
        interrupted: Whether a person or the system stopped the run, which is not a failure.
    """
    gate = result["data_gate"]
    status: Status = "failed"  # DataGate, too, may fail with an error before it decides
    text = f"failed in {step_name(failed) or 'start-up'}: {error}"
    if interrupted:
        status = "interrupted"
        text = error
    elif not error:
        status = "blessed" if is_blessed(result) else "not_blessed"
        status = "not_published" if _unpublished(result) else status
        text = sentence(result)
    elif failed == "DataGate" and gate is not None and not gate["blessed"]:
        status = "refused"
        text = error
    return {
        **result,
        "status": status,
        "verdict": text,
        "error": error,
        "failed": step_name(failed) if error else "",
        "findings": run_findings(result),
    }


def is_blessed(result: Result) -> bool:
    """Return whether ImageEvaluator has blessed the model; see `image_evaluator.rules`."""
    return result["gate"] is not None and result["gate"]["blessed"]


def sentence(result: Result) -> str:
    """Return the verdict with the accuracy, the reasons and the number of changed labels."""
    gate = result["gate"]
    if gate is None:
        return "not blessed: the model was not evaluated"
    reached = gate["figures"]
    if gate["decided_by"]["accuracy"] is not None:
        reached += f" reaches the threshold {gate['threshold']:g}{_by_chance(gate)}"
    unpublished = _unpublished(result)
    if unpublished:
        text = f"not published: {unpublished}; its {reached}"
    elif gate["blessed"]:
        text = f"blessed{_for_what(result)}: {reached}"
    else:
        text = f"not blessed: {gate['figures']}{_reasons(gate)}{_published_before(result)}"
    text += _time_decided(result)
    used = [finding for finding in all_findings(result) if finding["fate"] not in UNUSED]
    return "; ".join([text, *titles(used)])


def _by_chance(gate: Decision) -> str:
    """Say that the accuracy may have reached the threshold by chance."""
    is_sure = gate["decided_by"]["ci95"][0] >= gate["threshold"]
    return "" if is_sure else ", which may be chance"


def _for_what(result: Result) -> str:
    """Say what the model does not stand for, where much of the source was not used."""
    unused = not_used(all_findings(result), decides=True)
    return f" for the images that were used (not used: {unused})" if unused else ""


def headline(sentence: str, gate: Decision | None) -> str:
    """Return a verdict without the reasons of the rules, which `rulings` have."""
    return sentence if gate is None else sentence.replace(_reasons(gate), "", 1)


def rulings(gate: Decision) -> list[Ruling]:
    """Return what each rule says in a line, those that refuse first.

    The threshold that was reached has none: the verdict names it, with what was measured.
    """
    return [rule for rule in gate["rulings"] if rule["reason"] or rule["rule"] != "threshold"]


def _reasons(gate: Decision) -> str:
    """Return the end of the figures in the verdict: why rules refuse."""
    return f": {'; '.join(gate['reasons'])}" if gate["reasons"] else ""


def test_line(metrics: Mapping[str, SplitMetrics]) -> str:
    """Return the accuracy on the test split in a line; "" without a test split.

    Args:
        metrics: Metrics of the run by what was measured.
    """
    if names.TEST not in metrics:
        return ""
    test = metrics[names.TEST]
    if test["accuracy"] is None:
        return "unknown: train has images of the families of all its images"
    others = " images of families that train does not have" if test["seen"] is not None else ""
    of = f"{test['correct']:,} of {test['count']:,}{others}, {interval_text(test['ci95'])}"
    return f"{test['accuracy']:.3f} ({of}); it decided nothing"


def _published_before(result: Result) -> str:
    """Say that a version that was published before is still served."""
    version = result["baseline"]["version"] if result["baseline"] is not None else 0
    return f"; version {version} stays published" if version else ""


def _time_decided(result: Result) -> str:
    """Say that minutes which a person gave have decided which network was trained."""
    training = result["training"]
    ended = training["search_ended"] if training is not None else None
    if ended is None or ended["reason"] != "minutes":
        return ""
    return "; the minutes that were given for the search have decided what was trained"


def _unpublished(result: Result) -> str:
    """Say why a blessed model was not published; "" if it was, or is not blessed."""
    push = result["push"]
    if "rollback" in push["refused_by"]:
        version = f"version {push['withdrawn']}" if push["withdrawn"] else "an earlier version"
        return f"a rollback has withdrawn this model, which is that of {version}"
    if "other_version" in push["refused_by"]:
        compared = result["baseline"]["version"] if result["baseline"] is not None else 0
        if compared:
            return f"version {compared}, which it was compared with, is no longer the served one"
        return "another version was published meanwhile"
    return ""
