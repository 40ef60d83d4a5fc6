"""The run as a whole: its verdict, what to do next and its origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imgpipe.components.common.formatting import count, seconds
from imgpipe.components.report.advice import advice
from imgpipe.components.report.commands import NextCommand, next_commands
from imgpipe.components.report.section import Absent, Context, Section, SectionContent
from imgpipe.components.run_record import verdict
from imgpipe.components.run_record.run_findings import all_findings, run_findings
from imgpipe.models.finding import Finding

#: Beginnings of a verdict that are left out, because the heading says the same.
_HEADING = ("blessed: ", "not blessed: ", "not published: ", "data refused: ")


def build_verdict(context: Context) -> Mapping[str, Any]:
    """Collect the sentence, what the rules say, and the key figures."""
    gate = context.facts["gate"]
    return {
        "state": context.state,
        "rules": verdict.rulings(gate) if gate is not None else [],
        "sentence": _sentence(context),
        "reasons": context.data_reasons,
        "keys": _keys(context),
        "findings": _findings(context),
        "test": verdict.test_line(context.facts["metrics"]),
        "expected": verdict.expected_lines(verdict.expected(context.facts)),
        "commands": _commands(context),
    }


def _findings(context: Context) -> list[Finding]:
    """Return what decides, and what concerns the result."""
    about_result = {finding["reason"] for finding in run_findings(context.facts)}
    return [
        finding
        for finding in all_findings(context.facts)
        if finding["decides"] or finding["reason"] in about_result
    ]


def _commands(context: Context) -> list[NextCommand]:
    """Return what can be done next, besides looking at this page."""
    commands = next_commands(context.facts, context.state.status)
    return [command for command in commands if command["purpose"] != "look"]


def _sentence(context: Context) -> str:
    """Return the verdict without the words of the heading and without reasons that are listed."""
    text = verdict.headline(context.state.verdict, context.facts["gate"])
    if context.state.status == "refused" and context.data_reasons:
        text = text.splitlines()[0] if text else ""
    elif context.state.status != "interrupted":
        heading = next((words for words in _HEADING if text.startswith(words)), "")
        if not heading:
            return text
        text = text.removeprefix(heading)
    return text[:1].upper() + text[1:]


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


VERDICT = Section("verdict", "Verdict", build_verdict, order=10)


def build_next_steps(context: Context) -> SectionContent:
    """Return the advice."""
    proposals = advice(context.facts)
    if not proposals and context.state.error:
        return context.absent("There is nothing to advise from")
    if not proposals:
        return Absent("No fact of this run calls for a change of data or settings.")
    return {"advice": proposals}


NEXT_STEPS = Section("next_steps", "What to do next", build_next_steps, order=15)


def build_identity(context: Context) -> SectionContent:
    """Return the known parts of the run's identity."""
    settings, identity = context.facts["settings"], context.facts["identity"]
    push, baseline = context.facts["push"], context.facts["baseline"]
    if identity is None:
        return Absent("The run did not record how it was started.")
    values = {
        "date": identity["date"],
        "data fingerprint": settings["fingerprint"],
        "seeds": _named(settings["seeds"]),
        "version": push["version"] if push is not None else None,
        "parent version": baseline["version"] if baseline is not None else None,
        "packages": _named(identity["packages"]),
    }
    return {
        "rows": [(name.capitalize(), str(value)) for name, value in values.items() if value],
        "command": identity["command"],
        "changed": [
            f"{name} = {json.dumps(value, ensure_ascii=False)}"
            for name, value in settings["changed"].items()
        ],
    }


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


IDENTITY = Section("identity", "Identity", build_identity, order=180, numbers=True)
