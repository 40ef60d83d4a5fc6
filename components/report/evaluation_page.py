"""The page of `imgpipe evaluate`: the sections of a run's report that are about predictions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.formatting import count, share
from imgpipe.components.report import page
from imgpipe.components.report.page_facts import PageFacts, empty
from imgpipe.components.report.section import Context, Section
from imgpipe.components.report.sections import accuracy, pictures
from imgpipe.components.run_record.facts import page_settings
from imgpipe.components.run_record.metrics import metrics, summarise
from imgpipe.components.run_record.verdict import RunState
from imgpipe.models.names import feature_names as names


def _verdict(evaluation: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """Return the sentence, what the metrics do not show, and the key figures."""
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
        "findings": evaluation["findings"],
        "source": evaluation["source"],
        "model": evaluation["model"],
        "keys": keys,
    }


def render(evaluation: Mapping[str, Any], answers: AnswerTable, images: Mapping[str, bytes]) -> str:
    """Draw the page.

    Args:
        evaluation: What `--json` writes.
        answers: The answers that were judged.
        images: Encoded files of the mistakes, by image hash; any bytes are safe.

    Returns:
        The HTML text, which can be encoded as UTF-8.
    """
    # The sections expect the splits of a run, so the evaluated images take the name `test`.
    settings = page_settings("imgpipe evaluate", evaluation["source"], evaluation["classes"])
    facts: PageFacts = {
        **empty(settings),
        "metrics": {names.TEST: metrics(answers)},
        "deciding": summarise("evaluation", evaluation["threshold"], answers),
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
