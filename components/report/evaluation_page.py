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


def _verdict(found: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """Return the sentence, its warnings and the key figures."""
    keys = [
        ("images evaluated", count(found["count"])),
        ("accuracy", share(found["accuracy"])),
        ("expected calibration error", share(found["ece"])),
        ("… by chance on this number of images", share(found["ece_by_chance"])),
        ("classes", count(len(found["classes"]))),
    ]
    sentence = found["verdict"]
    return {
        "sentence": sentence[:1].upper() + sentence[1:],
        "warnings": found["warnings"],
        "source": found["source"],
        "model": found["model"],
        "keys": keys,
    }


def render(found: Mapping[str, Any], images: Mapping[str, bytes]) -> str:
    """Draw the page.

    Args:
        found: What `--json` writes.
        images: Encoded files of the mistakes, by image hash; any bytes are safe.

    Returns:
        The HTML text, which can be encoded as UTF-8.
    """
    index = {name: number for number, name in enumerate(found["classes"])}
    cells = [
        (index[cell["label"]], index[cell["predicted"]], cell["count"])
        for cell in found["confusion"]
    ]
    # The sections expect the splits of a run, so the evaluated images take the name `test`.
    settings = page_settings("imgpipe evaluate", found["source"], found["classes"])
    facts: PageFacts = {
        **empty(settings),
        "metrics": {names.TEST: _metrics(found)},
        "deciding": of_cells(
            "evaluation", found["threshold"], found["classes"], cells, found["mistakes"]
        ),
        "slices": found["slices"],
    }
    status = "evaluated" if found["passed"] else "below_threshold"
    verdict = functools.partial(_verdict, found)
    return page.render(
        facts,
        None,
        images,
        RunState(status, found["verdict"]),
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


def _metrics(found: Mapping[str, Any]) -> SplitMetrics:
    """Return the metrics of the evaluated images, each of which counts for itself."""
    return {
        "count": found["count"],
        "correct": found["correct"],
        "accuracy": found["accuracy"],
        "ci95": found["ci95"],
        "loss": found["loss"],
        "unseen": None,
        "ece": found["ece"],
        "ece_by_chance": found["ece_by_chance"],
        "per_class": found["per_class"],
    }
