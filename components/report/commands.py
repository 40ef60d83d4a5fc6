"""The commands that a person can copy after a run: they look, mend or use."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.formatting import plural, seconds
from imgpipe.components.image_evaluator.rules import NO_THRESHOLD, PASSING
from imgpipe.components.image_filter.copies.decisions import DUPLICATE, DUPLICATE_ACROSS_SPLITS
from imgpipe.components.image_filter.judge.checks import UNUSABLE
from imgpipe.components.model_pusher.settings import VERSIONS
from imgpipe.components.report.blocks import Command, Figures
from imgpipe.components.run_record.run_folder import CONFIG
from imgpipe.models.names.model_names import SERVED_NAME

if TYPE_CHECKING:
    from imgpipe.components.image_evaluator.decision import Decision
    from imgpipe.components.image_filter.judge.check import Row
    from imgpipe.components.run_record.facts import Facts
    from imgpipe.components.run_record.run_folder import Timings

ACCEPT = "--accept"  # option of `imgpipe run`
#: Components that run again if only a setting of [evaluate] is changed. The others are cached.
_AGAIN = ("Plan", "ImageEvaluator", "ModelPusher", "Report")
_MINUTE = 60  # seconds
#: Reasons of rejected copies, of which another copy is used: there is nothing to decide.
_USED_ELSEWHERE = (DUPLICATE, DUPLICATE_ACROSS_SPLITS)


class NextCommand(TypedDict):
    """A command that goes on from a run."""

    purpose: Annotated[
        Literal["look", "mend", "use", "try", "publish", "again"],
        "`look` at the report, `mend` the data, `use` the model, `publish` or `try` a model that "
        "was not published, or run `again`.",
    ]
    text: Annotated[str, "What the command does, in words."]
    command: Annotated[str, "The whole command."]


def next_commands(
    facts: Facts,
    status: str,
    timings: Timings | None = None,
    cached: Sequence[str] = (),
    moved: Sequence[str] = (),
) -> list[NextCommand]:
    """Return the commands that go on from a run, with which it ends.

    Args:
        facts: The facts of the run. Without the folder of the run in its identity, as on Kubeflow,
            only the command that serves the model is known.
        status: How the run ended, a status of its summary.
        timings: How long its parts took, from which follows how long publishing the model will
            take; None leaves that out.
        cached: Components whose outputs were taken from an earlier run.
        moved: Arguments of a run whose output folder was moved since, such as `--out OUT`.
    """
    folder = facts["identity"]["folder"] if facts["identity"] is not None else ""
    commands: list[NextCommand] = []
    if folder:
        out = _out(folder)
        commands.append(_next("look", "look at the report", f"imgpipe open {out}"))
        suspects = facts["suspects"]
        if suspects is not None and suspects["disagree"]:
            text = f"look at {plural(suspects['disagree'], 'mistake')}, the surest first"
            if suspects["doubtful"]:
                text = f"decide about {plural(suspects['doubtful'], 'doubtful label')}"
            commands.append(_next("mend", text, review_command(facts)))
    push = facts["push"]
    if push is not None and push["path"]:
        name = facts["settings"]["name"]
        commands.append(_next("use", "use the model", serve_command(push["path"], name)))
    elif folder and status in ("failed", "interrupted"):
        commands.append(_next("again", "run it again", run_command(folder, moved)))
    elif folder and push is not None and push["withdrawn"]:
        command = f"imgpipe rollback {out} --to {push['withdrawn']}"
        commands.append(_next("publish", "publish it again", command))
    elif folder:
        arguments = _publishing(facts)
        if arguments is not None:
            text = f"publish it as it is{_duration(timings, cached, arguments)}"
            commands.append(_next("publish", text, run_command(folder, [*moved, *arguments])))
        if arguments:
            text = "try it without publishing it"
            commands.append(_next("try", text, f"imgpipe serve {out} --run newest"))
    return commands


def review_command(facts: Facts) -> str:
    """Return the command that reviews the images of a run; with OUT if its folder is not known."""
    folder = facts["identity"]["folder"] if facts["identity"] is not None else ""
    return f"imgpipe review {_out(folder) if folder else 'OUT'}"


def can_be_reviewed(row: Row) -> bool:
    """Return whether an override can make a rejected file usable, and no copy of it is used."""
    reason = row["reason"]
    return not (reason in UNUSABLE or reason in _USED_ELSEWHERE) and bool(row["image_hash"])


def _out(folder: str) -> str:
    """Return the output folder of a run, quoted for a shell."""
    return shlex.quote(str(Path(folder).parent.parent))


def shown(commands: Sequence[NextCommand]) -> Figures:
    """Return each command behind what it does."""
    return Figures([(f"{each['text']}:", Command(each["command"])) for each in commands])


def run_command(folder: str, arguments: Sequence[str] = ()) -> str:
    """Return the command that runs the pipeline again with the settings of a run.

    Args:
        folder: Folder of the run on this machine.
        arguments: Further arguments, such as `--accept`.
    """
    return shlex.join(["imgpipe", "run", "--config", f"{folder}/{CONFIG}", *arguments])


def serve_command(version: str, model: str) -> str:
    """Return the command that serves a published version and those after it.

    Args:
        version: Path or URI of the version, such as `OUT/model/3`. The command names `OUT`
            where the versions lie in its usual folder on this machine.
        model: Name of the model in requests, as in `run.name`.
    """
    base = version.rstrip("/").rpartition("/")[0] or version
    above, _, name = base.rpartition("/")
    folder = above if above and name == VERSIONS and "://" not in base else base
    named = "" if model == SERVED_NAME else f" --model {shlex.quote(model)}"
    return f"imgpipe serve {shlex.quote(folder)}{named}"


def _next(
    purpose: Literal["look", "mend", "use", "try", "publish", "again"], text: str, command: str
) -> NextCommand:
    return {"purpose": purpose, "text": text, "command": command}


def _publishing(facts: Facts) -> list[str] | None:
    """Return the arguments with which the same run publishes its model; None if there are none.

    Nothing publishes a model that cannot be served, that could not be evaluated, or that a
    rollback withdrew: `imgpipe rollback --to` serves that one again.
    """
    gate, push = facts["gate"], facts["push"]
    if gate is None or push is None or gate["decided_by"]["accuracy"] is None:
        return None
    if "rollback" in push["refused_by"] or "serving" in push["refused_by"]:
        return None
    failed = gate["failed"]
    if not set(failed) <= PASSING.keys():
        return None
    needs_no_threshold = any(PASSING[rule] == NO_THRESHOLD for rule in failed)
    if needs_no_threshold:  # a threshold of 0 passes every model, so no other one is given
        failed = [rule for rule in failed if rule != "threshold"]
    passing = dict.fromkeys(PASSING[rule] for rule in failed)
    return [part.format(reached=_reached(gate)) for parts in passing for part in parts]


def _reached(gate: Decision) -> float:
    """Return the accuracy that decided, rounded down to two decimal places."""
    return math.floor(100 * (gate["decided_by"]["accuracy"] or 0.0)) / 100


def _duration(timings: Timings | None, cached: Sequence[str], arguments: Sequence[str]) -> str:
    """Say how long the run takes with other settings of [evaluate]; "" if that is not known.

    With `ACCEPT` the components after DataGate run again, too.
    """
    if timings is None or ACCEPT in arguments:
        return ""
    components = timings["components"]
    if "ImageEvaluator" not in components or "ImageEvaluator" in cached:
        return ""
    others = sum(time for name, time in components.items() if name not in _AGAIN)
    left = timings["total_s"] - others
    time = f"{max(round(left), 1)} s" if left < _MINUTE else seconds(left)
    return f", in about {time}"
