"""The summary of a run: how it is written to `summary.json`, read again, and documented.

It is composed of the results of the components, each as it is declared where it is made.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.image_evaluator.decision import Decision
from imgpipe.components.image_filter.data_summary import DataSummary
from imgpipe.components.model_pusher.push import NOT_PUBLISHED, Push
from imgpipe.components.report.commands import NextCommand, next_commands
from imgpipe.components.run_record.facts import Facts, empty, page_settings
from imgpipe.components.run_record.metrics import SplitMetrics
from imgpipe.components.run_record.run_folder import Timings
from imgpipe.components.run_record.verdict import RunState, run_findings
from imgpipe.models.finding import Finding
from imgpipe.models.training.history import History

Status = Literal["blessed", "not_blessed", "not_published", "refused", "failed", "interrupted"]
#: How a run ended, also one that left no summary.
RunStatus: TypeAlias = Status | Literal["working", "killed", "damaged"]


class RunModel(TypedDict):
    """The model."""

    name: Annotated[str, "Name of the pipeline and of the served model."]
    backbone: Annotated[str, "Name of the backbone."]
    classes: Annotated[list[str], "Class names, in the order of the probabilities."]
    image_size: Annotated[int, "Width and height of the images that the exported network sees."]
    features: Annotated[
        str,
        "What the head of the exported network reads, as the setting `model.features` names it; "
        "empty if none was trained.",
    ]


class BankWork(TypedDict):
    """Work of the feature bank in this run."""

    forward_passes: Annotated[int, "Images and views that went through the backbone."]
    reused: Annotated[int, "Images and views whose features were already stored."]
    decided: Annotated[
        str,
        "When the features that the head reads were chosen, in local time, by this run or an "
        "earlier one in the output folder; empty if there was no choice.",
    ]


class RunSummary(TypedDict):
    """The summary of a run, which is also written to `summary.json` in the folder of the run.

    All fields are always present. They are null where the run did not get that far.
    """

    schema: Annotated[int, "Version of this format, 2."]
    status: Annotated[
        Status,
        "How the run ended. not_published: the model is blessed, but a rollback has withdrawn it, "
        "or another version was published meanwhile.",
    ]
    blessed: Annotated[bool, "Whether the model passed all gates."]
    verdict: Annotated[str, "The decision as a sentence."]
    gate: Annotated[Decision | None, "The evaluation; null if no model was evaluated."]
    findings: Annotated[
        list[Finding], "Findings about the result; those about the images are in `data`."
    ]
    push: Annotated[Push, "Whether the model was published, and where it is."]
    model: Annotated[RunModel, "The model."]
    data: Annotated[DataSummary | None, "The images; null if none was inspected."]
    training: Annotated[History | None, "The training; null if there was none."]
    metrics: Annotated[dict[str, SplitMetrics], "Metrics by split."]
    timings: Annotated[Timings, "Times in seconds."]
    bank: Annotated[BankWork, "Work of the feature bank."]
    cached: Annotated[list[str], "Components whose outputs were taken from an earlier run."]
    report: Annotated[str | None, "Path of the report; null if none was written."]
    log: Annotated[str, "Path of the log."]
    next: Annotated[
        list[NextCommand],
        "The commands that go on from this run, of which the first three end it; empty without a "
        "report.",
    ]


_SUMMARY = TypeAdapter(RunSummary)


def read(content: object) -> RunSummary:
    """Check the parsed JSON of a summary; fields that it does not declare are left out.

    Raises:
        ValueError: It is no summary; the message says what is wrong with its first field.
    """
    try:
        return _SUMMARY.validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def summarise(
    facts: Facts,
    timings: Timings,
    cached: list[str],
    report: str | None,
    state: RunState,
) -> RunSummary:
    """Compose the summary of a run.

    Args:
        facts: What is known about the run.
        timings: How long its parts took.
        cached: Components whose outputs were taken from an earlier run.
        report: Path of the report, None if none was written.
        state: How the run ended.
    """
    settings = facts["settings"]
    training = facts["training"]
    return read(
        {
            "schema": 2,
            "status": state.status,
            "blessed": state.status in ("blessed", "not_published"),
            "verdict": state.verdict,
            "gate": facts["gate"],
            "findings": run_findings(facts),
            "push": facts["push"] or NOT_PUBLISHED,
            "model": {
                "name": settings["name"],
                "backbone": settings["backbone"],
                "classes": settings["vocabulary"],
                "image_size": settings["image_size"],
                "features": training["features"] if training is not None else "",
            },
            "data": facts["data"],
            "training": facts["training"],
            "metrics": facts["metrics"],
            "timings": timings,
            "bank": _bank_work(facts, "FeatureBank" in cached),
            "cached": cached,
            "report": report,
            "log": state.log,
            "next": next_commands(facts, state.status, timings, cached),
        },
    )


def unknown(status: RunStatus) -> RunSummary:
    """Return a summary for a run that left none: nothing is known but its status."""
    timings: Timings = {"total_s": 0.0, "import_s": 0.0, "components": {}}
    facts = empty(page_settings("", "", ()))
    summary = summarise(facts, timings, [], None, RunState("failed", ""))
    return cast(RunSummary, {**summary, "status": status})


def _bank_work(facts: Facts, cached: bool) -> BankWork:
    """Count the forward passes of this run and the features that were reused."""
    bank = facts["bank"]
    if bank is None:
        return {"forward_passes": 0, "reused": 0, "decided": ""}
    passes, reused = bank["forward_passes"], bank["reused"]
    decision = bank["decision"]
    return {
        # What an earlier run computed is read again by this one.
        "forward_passes": 0 if cached else passes,
        "reused": reused + passes if cached else reused,
        "decided": "" if decision is None else decision["time"],
    }
