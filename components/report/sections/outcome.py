"""The run as a whole: its verdict, what to do next and its origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imgpipe.components.common.formatting import count, seconds
from imgpipe.components.image_filter.findings import joined
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import data_reasons, said, section
from imgpipe.components.report.commands import advice
from imgpipe.components.run_record import verdict
from imgpipe.components.run_record.result import Result, judged
from imgpipe.models.finding import Finding

#: Beginnings of a verdict that are left out, because the heading says the same.
_HEADING = ("blessed: ", "not blessed: ", "not published: ", "data refused: ")
#: Marks of a rule that a model has passed, of one that refuses it, and of one without a say.
_SIGNS = {
    "passed": show.Span("✓", "good"),
    "refused": show.Span("✕", "bad"),
    "silent": show.Span("–", "muted"),
}
_PHOTOS = 12  # classes with an image beside the verdict


@section("verdict", "Verdict", order=10)
def run_verdict(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the sentence, its grounds, and what can be done next."""
    text = headline(result)
    for words in _HEADING:
        text = text.removeprefix(words)
    yield show.Sentence(show.capitalised(text), "sentence")
    yield from grounds(result)
    yield from _commands(result, ("use", "again", "mend"))


def headline(result: Result) -> str:
    """Return the verdict without the reasons that its grounds list."""
    text = verdict.headline(result["verdict"], result["gate"])
    is_listed = result["status"] == "refused" and data_reasons(result)
    return text.partition("\n")[0] if is_listed else text


def grounds(result: Result) -> Iterator[show.ResultBlock]:
    """Yield what stands behind the verdict: the rules, the findings and the key figures."""
    gate = result["gate"]
    test = verdict.test_line(result["metrics"])
    if test:
        yield show.Sentence((show.Span("Test split:", "strong"), f" accuracy {test}."))
    yield from class_photos(result)
    yield from _how_it_ended(result)
    rules = verdict.rulings(gate) if gate is not None else []
    texts = [f" {show.capitalised(rule['reason'] or rule['text'])}." for rule in rules]
    marked = [(_SIGNS[rule["state"]], text) for rule, text in zip(rules, texts, strict=True)]
    yield show.Listed(marked, "rulings")
    yield from said(_findings(result))
    yield show.Figures(_keys(result), key=True)


def _commands(result: Result, purposes: Sequence[str]) -> Iterator[show.ResultBlock]:
    """Yield the commands of some purposes, without those of the advice."""
    advised = {command for proposal in advice(result) for command in proposal["remedies"]}
    for step in result["next"]:
        if step["reason"] in purposes and not advised & set(step["remedies"]):
            yield show.Sentence(f"{show.capitalised(step['sentence'])}:")
            yield from map(show.Command, step["remedies"])


def class_photos(result: Result) -> Iterator[show.Photos]:
    """Yield a row with a typical image of each of the first classes."""
    shown = []
    for gallery in result["galleries"][:_PHOTOS]:
        name = gallery["name"]
        for image in gallery["typical"][:1]:
            notes = (f"labelled {name}",)
            shown.append(show.Picture(image["image_hash"], image["path"], notes, caption=name))
    if shown:
        yield show.Photos(shown)


def _how_it_ended(result: Result) -> Iterator[show.ResultBlock]:
    """Yield what a blessing means, or where and why the run stopped."""
    status = result["status"]
    if status == "blessed":
        yield show.Sentence(
            "The model has passed every check on its accuracy and on how it is served, so that it "
            "may be published.",
            "muted",
        )
    gate = result["gate"]
    if status == "not_blessed" and gate is not None:
        is_set = "evaluate.threshold" in result["changed"]
        whose = "which a setting asks for" if is_set else "which imgpipe asks for by itself"
        yield show.Sentence(
            "Nothing was published. A model is blessed, and published, if it passes every check "
            f"below. One is the accuracy {gate['threshold']:g}, {whose} (evaluate.threshold).",
            "muted",
        )
    failed = result["failed"]
    error = result["error"]
    if failed and failed not in result["verdict"] and status != "refused":
        yield show.Sentence(("The run stopped in ", show.Span(failed, "strong"), "."))
    if error and error not in result["verdict"]:
        yield show.Command(error)
    if status == "refused":
        yield show.Listed(data_reasons(result))


def _findings(result: Result) -> list[Finding]:
    """Return what decides, and what concerns the result."""
    data = result["data"]
    about_images = data["findings"] if data is not None else []
    deciding = (finding for finding in about_images if finding["decides"])
    return joined(deciding, result["findings"])


def _keys(result: Result) -> list[tuple[str, str]]:
    """Return (name, text) of the key figures that are known."""
    data = result["data"]
    push = result["push"]
    figures = judged(result)
    keys = []
    if data is not None:
        keys += [("images kept", count(data["kept"])), ("rejected", count(data["rejected"]))]
    if result["classes"]:
        keys.append(("classes", count(len(result["classes"]))))
    if figures is not None:
        right = f"{figures['correct']:,} of {figures['count']:,}"
        keys.append(("answered right", right))
    if result["timings"]["total_s"]:
        keys.append(("time to this page", seconds(result["timings"]["total_s"])))
    if push["version"]:
        keys.append(("served version", push["version"]))
    return keys


@section("next_steps", "What to do next", order=15)
def next_steps(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the advice, and then how the model is tried and published as it is."""
    proposals = advice(result)
    steps: list[list[show.Inline]] = []
    for proposal in proposals:
        commands = map(show.Command, proposal["remedies"])
        link = show.Link("Show", proposal["reason"])
        steps.append([f"{proposal['sentence']} ", link, *commands])
    if steps:
        yield show.Listed(steps, "steps")
    yield from _commands(result, ("try", "publish"))


@section("identity", "Identity", order=180, numbers=True)
def identity(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the known parts of the run's identity."""
    identity = result["identity"]
    baseline = result["baseline"]
    if identity is None:
        return
    values = {
        "Date": identity["date"],
        "Data fingerprint": result["fingerprint"],
        "Seeds": _named(result["seeds"]),
        "Version": result["push"]["version"],
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
        for name, value in result["changed"].items()
    ]
    yield show.Command("\n".join(changed)) if changed else show.Sentence("None.")


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
