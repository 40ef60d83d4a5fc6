"""The page of `imgpipe evaluate`: the sections of a run's report that are about predictions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from imgpipe.components.common.formatting import count, share
from imgpipe.components.report import page
from imgpipe.components.report.page_facts import PageFacts, empty
from imgpipe.components.report.section import Context, Section
from imgpipe.components.report.sections import accuracy, pictures
from imgpipe.components.run_record.deciding_answers import of_cells
from imgpipe.components.run_record.facts import page_settings
from imgpipe.components.run_record.verdict import RunState
from imgpipe.models.names import feature_names as names

if TYPE_CHECKING:
    from imgpipe.components.run_record.metrics import SplitMetrics


def _verdict(evaluation: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """Return the sentence, its warnings and the key figures."""
    keys = [
        ("images evaluated", count(evaluation["count"])),
        ("accuracy", share(evaluation["accuracy"])),
        ("expected calibration error", share(evaluation["ece"])),
        ("… by chance on this number of images", share(evaluation["ece_by_chance"])),
        ("classes", count(len(evaluation["classes"]))),
    ]
    sentence = evaluation["verdict"]
    return {
        "sentence": sentence[:1].upper() + sentence[1:],
        "warnings": evaluation["warnings"],
        "source": evaluation["source"],
        "model": evaluation["model"],
        "keys": keys,
    }


def render(evaluation: Mapping[str, Any], images: Mapping[str, bytes]) -> str:
    """Draw the page.

    Args:
        evaluation: What `--json` writes.
        images: Encoded files of the mistakes, by image hash; any bytes are safe.

    Returns:
        The HTML text, which can be encoded as UTF-8.
    """
    index = {name: number for number, name in enumerate(evaluation["classes"])}
    cells = [
        (index[cell["label"]], index[cell["predicted"]], cell["count"])
        for cell in evaluation["confusion"]
    ]
    # The sections expect the splits of a run, so the evaluated images take the name `test`.
    settings = page_settings("imgpipe evaluate", evaluation["source"], evaluation["classes"])
    facts: PageFacts = {
        **empty(settings),
        "metrics": {names.TEST: _metrics(evaluation)},
        "deciding": of_cells(
            "evaluation",
            evaluation["threshold"],
            evaluation["classes"],
            cells,
            evaluation["mistakes"],
        ),
        "slices": evaluation["slices"],
    }
    status = "evaluated" if evaluation["passed"] else "below_threshold"
    verdict = functools.partial(_verdict, evaluation)
    return page.render(
        facts,
        None,
        images,
        RunState(status, evaluation["verdict"]),
        (
            Section("verdict", "Verdict", verdict, template="evaluation_verdict"),
            pictures.BY_CLASS,
            pictures.TAKEN_FOR,
            accuracy.MISTAKES,
            accuracy.FIGURES,
            accuracy.PER_CLASS,
            accuracy.SLICES,
        ),
    )


def _metrics(evaluation: Mapping[str, Any]) -> SplitMetrics:
    """Return the metrics of the evaluated images, each of which counts for itself."""
    return {
        "count": evaluation["count"],
        "correct": evaluation["correct"],
        "accuracy": evaluation["accuracy"],
        "ci95": evaluation["ci95"],
        "loss": evaluation["loss"],
        "unseen": None,
        "ece": evaluation["ece"],
        "ece_by_chance": evaluation["ece_by_chance"],
        "per_class": evaluation["per_class"],
    }
