"""The run as a whole: its verdict, what to do next and its origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imgpipe.components.common.formatting import count, seconds
from imgpipe.components.image_filter.findings import joined
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import Context, said, section
from imgpipe.components.report.commands import advice, next_commands
from imgpipe.components.run_record import verdict
from imgpipe.components.run_record.verdict import run_findings
from imgpipe.models.finding import Finding

#: Beginnings of a verdict that are left out, because the heading says the same.
_HEADING = ("blessed: ", "not blessed: ", "not published: ", "data refused: ")
_PHOTOS = 12  # classes with an image beside the verdict


@section("verdict", "Verdict", order=10)
def run_verdict(context: Context) -> Iterator[show.ResultBlock]:
    """Yield the sentence, what the rules say, the key figures, and what can be done next."""
    gate = context.facts["gate"]
    yield show.Sentence(_sentence(context), "sentence")
    test = verdict.test_line(context.facts["metrics"])
    if test:
        yield show.Sentence((show.Span("Test split:", "strong"), f" accuracy {test}."))
    yield from class_photos(context)
    yield from _how_it_ended(context)
    rules = verdict.rulings(gate) if gate is not None else []
    signs = {True: show.Span("✕", "bad"), False: show.Span("✓", "good")}
    texts = [f" {show.capitalised(rule['reason'] or rule['text'])}." for rule in rules]
    marked = [(signs[bool(rule["reason"])], text) for rule, text in zip(rules, texts, strict=True)]
    yield show.Listed(marked, "rulings")
    yield from said(_findings(context))
    yield show.Figures(_keys(context), key=True)
    yield from _commands(context, ("use", "again", "mend"))


def _commands(context: Context, purposes: Sequence[str]) -> Iterator[show.ResultBlock]:
    """Yield the commands of some purposes, without those of the advice."""
    advised = {command for proposal in advice(context.facts) for command in proposal["remedies"]}
    for command in next_commands(context.facts, context.state.status):
        if command["purpose"] in purposes and command["command"] not in advised:
            yield show.Sentence(f"{show.capitalised(command['text'])}:")
            yield show.Command(command["command"])


def class_photos(context: Context) -> Iterator[show.Photos]:
    """Yield a row with an image of each of the first classes, if there are images."""
    shown = []
    for gallery in context.facts["galleries"][:_PHOTOS]:
        for image in gallery["sample"][:1]:
            shown.append(show.Picture(image["image_hash"], f"{gallery['name']}: {image['path']}"))
    if shown:
        yield show.Photos(shown)


def _how_it_ended(context: Context) -> Iterator[show.ResultBlock]:
    """Yield what a blessing means, or where and why the run stopped."""
    state = context.state
    if state.status == "blessed":
        yield show.Sentence(
            "The model has passed every check on its accuracy and on how it is served, so that it "
            "may be published.",
            "muted",
        )
    gate = context.facts["gate"]
    if state.status == "not_blessed" and gate is not None:
        is_set = "evaluate.threshold" in context.facts["settings"]["changed"]
        whose = "which a setting asks for" if is_set else "which imgpipe asks for by itself"
        yield show.Sentence(
            "Nothing was published. A model is blessed, and published, if it passes every check "
            f"below. One is the accuracy {gate['threshold']:g}, {whose} (evaluate.threshold).",
            "muted",
        )
    refused = state.status == "refused"
    if state.failed and state.failed not in state.verdict and not refused:
        yield show.Sentence(("The run stopped in ", show.Span(state.failed, "strong"), "."))
    if state.error and state.error not in state.verdict:
        yield show.Command(state.error)
    if refused:
        yield show.Listed(context.data_reasons)


def _findings(context: Context) -> list[Finding]:
    """Return what decides, and what concerns the result."""
    data = context.facts["data"]
    about_images = data["findings"] if data is not None else []
    deciding = (finding for finding in about_images if finding["decides"])
    return joined(deciding, run_findings(context.facts))


def _sentence(context: Context) -> str:
    """Return the verdict without the words of the heading and without reasons that are listed."""
    text = verdict.headline(context.state.verdict, context.facts["gate"])
    if context.state.status == "refused" and context.data_reasons:
        text = text.splitlines()[0] if text else ""
    elif context.state.status != "interrupted":
        heading = next((words for words in _HEADING if text.startswith(words)), "")
        text = text.removeprefix(heading)
    return show.capitalised(text)


def _keys(context: Context) -> list[tuple[str, str]]:
    """Return (name, text) of the key figures that are known."""
    data, push = context.facts["data"], context.facts["push"]
    deciding = context.facts["deciding"]
    keys = []
    if data is not None:
        keys += [("images kept", count(data["kept"])), ("rejected", count(data["rejected"]))]
    if context.vocabulary:
        keys.append(("classes", count(len(context.vocabulary))))
    if deciding is not None:
        right = f"{deciding['correct']:,} of {deciding['count']:,}"
        keys.append(("answered right", right))
    if context.timings is not None:
        keys.append(("time to this page", seconds(context.timings["total_s"])))
    if push is not None and push["version"]:
        keys.append(("served version", push["version"]))
    return keys


@section("next_steps", "What to do next", order=15)
def next_steps(context: Context) -> Iterator[show.ResultBlock]:
    """Yield the advice, and then how the model is tried and published as it is."""
    proposals = advice(context.facts)
    steps: list[list[show.Inline]] = []
    for proposal in proposals:
        commands = map(show.Command, proposal["remedies"])
        link = show.Link("Show", proposal["reason"])
        steps.append([f"{proposal['sentence']} ", link, *commands])
    if steps:
        yield show.Listed(steps, "steps")
    yield from _commands(context, ("try", "publish"))


@section("identity", "Identity", order=180, numbers=True)
def identity(context: Context) -> Iterator[show.ResultBlock]:
    """Yield the known parts of the run's identity."""
    settings, identity = context.facts["settings"], context.facts["identity"]
    push, baseline = context.facts["push"], context.facts["baseline"]
    if identity is None:
        return
    values = {
        "Date": identity["date"],
        "Data fingerprint": settings["fingerprint"],
        "Seeds": _named(settings["seeds"]),
        "Version": push["version"] if push is not None else None,
        "Parent version": baseline["version"] if baseline is not None else None,
        "Packages": _named(identity["packages"]),
    }
    yield show.Figures([(name, str(value)) for name, value in values.items() if value])
    if identity["command"]:
        yield show.Heading("Command")
        yield show.Command(identity["command"])
    yield show.Heading("Settings that differ from the defaults")
    changed = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in settings["changed"].items()
    ]
    yield show.Command("\n".join(changed)) if changed else show.Sentence("None.")


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
