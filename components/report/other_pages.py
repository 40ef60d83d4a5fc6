"""The pages of `imgpipe check` and of `imgpipe evaluate`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.formatting import count, share
from imgpipe.components.image_filter.image_table import ImageTable
from imgpipe.components.image_filter.judge.check import Row
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import Context, Section, said
from imgpipe.components.report.page import Page
from imgpipe.components.report.sections import accuracy, images, outcome, pictures
from imgpipe.components.run_record.facts import Facts, empty, page_settings
from imgpipe.components.run_record.metrics import deciding_answers, metrics
from imgpipe.components.run_record.verdict import RunState
from imgpipe.models import names


def check_sections(checked: ImageTable, reasons: Sequence[str]) -> tuple[Section, ...]:
    """Return the sections of the page.

    Args:
        checked: The images, and what was found in them.
        reasons: Sentences that say why a run would refuse the data.
    """
    by_fate = {
        "rejected": checked.rejected,
        "repaired": checked.repaired,
        "warned": sorted(checked.warned, key=lambda row: (row["score"], row["path"])),
    }
    return (
        Section("verdict", "Verdict", functools.partial(_verdict_of_check, by_fate, reasons)),
        pictures.gallery,
        Section("findings", "Findings", functools.partial(_findings, by_fate)),
        dataclasses.replace(images.near_duplicates, numbers=False),
        dataclasses.replace(images.data, build=_data),
    )


def _verdict_of_check(
    by_fate: Mapping[str, Sequence[Row]], reasons: Sequence[str], context: Context
) -> Iterator[show.ResultBlock]:
    """Yield the verdict, the reasons of a refusal, what to do and the counts."""
    data = context.facts["data"]
    words = context.state.verdict.partition(": ")[2]
    if context.state.status != "refused":  # the sentence of a refusal says that already
        words = f"a run would accept this data: {words}"
    yield show.Sentence(show.capitalised(words), "sentence")
    yield from outcome.class_photos(context)
    yield show.Listed(reasons)
    if data is None:
        return
    yield from said(finding for finding in data["findings"] if finding["decides"])
    yield show.Sentence(
        "A check applies the same rules to the files and the numbers of images as a run. A run "
        "also compares the data with the accepted schema and with the data of the last blessed "
        "version, if there are any.",
        "muted",
    )
    counts = {
        "images": data["in"],
        "kept": data["kept"],
        "rejected": data["rejected"],
        "repaired": data["repaired"],
        "with warnings": len({row["path"] for row in by_fate["warned"]}),
    }
    yield show.Figures([(name, f"{count:,}") for name, count in counts.items()], key=True)


def _data(context: Context) -> Iterable[show.ResultBlock]:
    """Build the section of the run's report without warnings, which are shown as findings."""
    data = context.facts["data"]
    if data is not None:
        others = [finding for finding in data["findings"] if finding["fate"] != "warned"]
        context = dataclasses.replace(
            context, facts={**context.facts, "data": {**data, "findings": others}}
        )
    return images.data.build(context)


def _findings(by_fate: Mapping[str, Sequence[Row]], context: Context) -> Iterator[show.ResultBlock]:
    """Yield all findings by what happened to the file, and by reason."""
    if not any(by_fate.values()):
        yield show.Sentence("No problems were found in single images.")
    for fate, rows in by_fate.items():
        yield from images.grouped(rows, fate)


def _verdict_of_evaluation(
    evaluation: Mapping[str, Any], context: Context
) -> Iterator[show.ResultBlock]:
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
        "deciding": deciding_answers("evaluation", evaluation["threshold"], answers),
        "slices": evaluation["slices"],
    }
    status = "evaluated" if evaluation["passed"] else "below_threshold"
    return Page.of(
        Context(facts, None, RunState(status, evaluation["verdict"])),
        (
            Section("verdict", "Verdict", functools.partial(_verdict_of_evaluation, evaluation)),
            pictures.by_class,
            pictures.taken_for,
            accuracy.mistakes,
            accuracy.figures,
            accuracy.per_class,
            accuracy.slices,
        ),
    )
