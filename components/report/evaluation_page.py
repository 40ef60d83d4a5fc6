"""The page of `imgpipe evaluate`: the sections of a run's report that are about predictions."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.formatting import count, share
from imgpipe.components.report import blocks as show
from imgpipe.components.report.page import Page
from imgpipe.components.report.section import Context, Section
from imgpipe.components.report.sections import accuracy, pictures
from imgpipe.components.run_record.facts import Facts, empty, page_settings
from imgpipe.components.run_record.metrics import metrics, summarise
from imgpipe.components.run_record.verdict import RunState
from imgpipe.models.names import feature_names as names


def _verdict(evaluation: Mapping[str, Any], context: Context) -> Iterator[show.ResultBlock]:
    """Yield the sentence, its findings and the key figures."""
    yield show.Sentence(show.capitalised(evaluation["verdict"]), "sentence")
    for finding in evaluation["findings"]:
        yield show.Sentence(f"{finding['sentence']}.")
    yield show.Sentence(
        f"The images come from {evaluation['source']}, and the answers are those of the served "
        f"signature of {evaluation['model']}. Below, these images are shown as the split “test”.",
        "muted",
    )
    keys = [
        ("images evaluated", count(evaluation["count"])),
        ("accuracy", share(evaluation["accuracy"])),
        ("expected calibration error", share(evaluation["ece"])),
        ("… by chance on this number of images", share(evaluation["ece_by_chance"])),
        ("classes", count(len(evaluation["classes"]))),
    ]
    yield show.Figures(keys, key=True)


def page(evaluation: Mapping[str, Any], answers: AnswerTable) -> Page:
    """Return the page.

    Args:
        evaluation: What `--json` writes.
        answers: The answers that were judged.
    """
    # The sections expect the splits of a run, so the evaluated images take the name `test`.
    settings = page_settings("imgpipe evaluate", evaluation["source"], evaluation["classes"])
    facts: Facts = {
        **empty(settings),
        "metrics": {names.TEST: metrics(answers)},
        "deciding": summarise("evaluation", evaluation["threshold"], answers),
        "slices": evaluation["slices"],
    }
    status = "evaluated" if evaluation["passed"] else "below_threshold"
    return Page.of(
        Context(facts, None, RunState(status, evaluation["verdict"])),
        (
            Section("verdict", "Verdict", functools.partial(_verdict, evaluation)),
            pictures.by_class,
            pictures.taken_for,
            accuracy.mistakes,
            accuracy.figures,
            accuracy.per_class,
            accuracy.slices,
        ),
    )
