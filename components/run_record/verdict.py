"""The verdict of a run as a status and a sentence, and the expected result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from typing_extensions import TypedDict

from imgpipe.components.image_filter.findings import not_used, titles
from imgpipe.components.run_record.run_findings import all_findings
from imgpipe.components.run_record.run_folder import step_name
from imgpipe.models.names import feature_names as names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imgpipe.components.image_evaluator.decision import Decision, Ruling
    from imgpipe.components.run_record.facts import Facts
    from imgpipe.components.run_record.metrics import SplitMetrics


@dataclass(frozen=True)
class RunState:
    """How a run ended.

    Attributes:
        status: A key of `page.STATUS`.
        verdict: The sentence at the top of the page.
        error: Why the run stopped; "" if it did not.
        log: Path of the run's log.
        failed: The step that stopped the run, as the display shows it; "" if none did.
    """

    status: str
    verdict: str
    error: str = ""
    log: str = ""
    failed: str = ""


class Expected(TypedDict):
    """The expected result, and the result of this run."""

    text: Annotated[str, "What is expected, in words."]
    low: Annotated[float | None, "Lowest accuracy that is expected."]
    high: Annotated[float | None, "Highest accuracy that is expected."]
    split: Annotated[str, "Split on which the accuracies are compared."]
    value: Annotated[float | None, "Accuracy of this run."]
    compared: Annotated[
        Literal["within", "above", "below"] | None,
        "Whether the accuracy of this run is within, above or below the expected range; null if "
        "there is nothing to compare.",
    ]


def state(
    facts: Facts,
    error: str = "",
    failed: str = "",
    log: str = "",
    interrupted: bool = False,
) -> RunState:
    """Return the status and the verdict of a run.

    Args:
        facts: Facts from `imgpipe.components.run_record.collect.collect`.
        error: Why the run stopped, "" when it did not.
        failed: The component that stopped the run.
        log: Path of the log of the run.
        interrupted: Whether a person or the system stopped the run, which is not a failure.
    """
    gate = facts["data_gate"]
    if interrupted:
        status = "interrupted"
        text = error
    elif not error:
        status = "blessed" if is_blessed(facts) else "not_blessed"
        status = "not_published" if _unpublished(facts) else status
        text = sentence(facts)
    elif failed == "DataGate" and gate is not None and not gate["blessed"]:
        status = "refused"
        text = error
    else:  # DataGate, too, may fail with an error before it decides
        status = "failed"
        text = f"failed in {step_name(failed) or 'start-up'}: {error}"
    return RunState(status, text, error, log, step_name(failed) if error else "")


def is_blessed(facts: Facts) -> bool:
    """Return whether ImageEvaluator has blessed the model; see `image_evaluator.rules`."""
    return facts["gate"] is not None and facts["gate"]["blessed"]


def sentence(facts: Facts) -> str:
    """Return the verdict with the accuracy, the reasons and the number of changed labels."""
    gate = facts["gate"]
    if gate is None:
        return "not blessed: the model was not evaluated"
    reached = f"{gate['figures']} reaches the threshold {gate['threshold']:g}"
    unpublished = _unpublished(facts)
    if unpublished:
        text = f"not published: {unpublished}; its {reached}"
    elif gate["blessed"]:
        text = f"blessed{_for_what(facts)}: {reached}"
    else:
        text = f"not blessed: {gate['figures']}{_reasons(gate)}{_published_before(facts)}"
    text += _time_decided(facts)
    used = [finding for finding in all_findings(facts) if finding["fate"] != "not_used"]
    return "; ".join([text, *titles(used)])


def _for_what(facts: Facts) -> str:
    """Say what the model does not stand for, where much of the source was not used."""
    unused = not_used(all_findings(facts), decides=True)
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
    low, high = test["ci95"]
    of = f"{test['correct']:,} of {test['count']:,}, {low:.2f}–{high:.2f}"
    return f"{test['accuracy']:.3f} ({of}); it decided nothing"


def _published_before(facts: Facts) -> str:
    """Say that a version that was published before is still served."""
    version = facts["baseline"]["version"] if facts["baseline"] is not None else 0
    return f"; version {version} stays published" if version else ""


def _time_decided(facts: Facts) -> str:
    """Say that minutes which a person gave have decided which network was trained."""
    training = facts["training"]
    ended = training["search_ended"] if training is not None else None
    if ended is None or ended["reason"] != "minutes":
        return ""
    return "; the minutes that were given for the search have decided what was trained"


def _unpublished(facts: Facts) -> str:
    """Say why a blessed model was not published; "" if it was, or is not blessed."""
    push = facts["push"]
    if push is None:
        return ""
    if "rollback" in push["refused_by"]:
        version = f"version {push['withdrawn']}" if push["withdrawn"] else "an earlier version"
        return f"a rollback has withdrawn this model, which is that of {version}"
    if "other_version" in push["refused_by"]:
        compared = facts["baseline"]["version"] if facts["baseline"] is not None else 0
        if compared:
            return f"version {compared}, which it was compared with, is no longer the served one"
        return "another version was published meanwhile"
    return ""


def expected(facts: Facts) -> Expected | None:
    """Compare the accuracy of the run with the [expect] section of the configuration.

    Args:
        facts: Facts from `imgpipe.components.run_record.collect.collect`.

    Returns:
        The comparison; None when nothing is expected.
    """
    expect = facts["settings"]["expect"]
    low = expect["low"]
    high = expect["high"]
    if not expect["text"] and low is None and high is None:
        return None
    gate = facts["gate"]
    split = expect["split"]
    if split not in facts["metrics"]:
        split = gate["decided_by"]["kind"] if gate is not None else names.VALIDATION
    value = facts["metrics"][split]["accuracy"] if split in facts["metrics"] else None
    compared: Literal["within", "above", "below"] | None = None
    if value is not None and (low, high) != (None, None):
        compared = "below" if low is not None and value < low else "within"
        compared = "above" if high is not None and value > high else compared
    return {
        "text": expect["text"],
        "low": low,
        "high": high,
        "split": split,
        "value": value,
        "compared": compared,
    }


def expected_lines(comparison: Expected | None) -> list[tuple[str, str]]:
    """Return (heading, text) of the expected result and of the result of this run."""
    if comparison is None:
        return []
    wanted = _range(comparison["low"], comparison["high"])
    lines = [("expected", "; ".join(filter(None, (wanted, comparison["text"]))))]
    if comparison["value"] is not None:
        compared = f": {comparison['compared']}" if comparison["compared"] else ""
        lines.append(("this run", f"{comparison['value']:.3f} on {comparison['split']}{compared}"))
    return lines


def _range(low: float | None, high: float | None) -> str:
    """Format a range: `0.95 to 0.97`, `0.8 or more`, `0.84`; "" when there is none."""
    if low is None:
        return "" if high is None else f"up to {high:g}"
    if high is None:
        return f"{low:g} or more"
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
