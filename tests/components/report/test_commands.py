"""The commands after a run: each whole, and only those that lead somewhere."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from imgpipe.components.model_pusher.push import Push
from imgpipe.components.report import commands
from imgpipe.components.report.blocks import Command
from imgpipe.components.report.commands import NextCommand, next_commands
from imgpipe.components.run_record.facts import Facts
from imgpipe.components.run_record.run_folder import Timings
from tests import run_facts
from tests.declared import made

FOLDER = "/my out/runs/20260131-140559"
_SECONDS = {"ImageTrainer": 20.0, "ImageEvaluator": 4.0, "ModelPusher": 1.0, "Report": 2.0}
_TIMINGS = made(Timings, total_s=35.0, import_s=5.0, components=_SECONDS)


def facts(
    failed: tuple[str, ...] = (), refused_by: tuple[str, ...] = ("model",), **parts: Any
) -> Facts:
    """Return the facts of a run in `FOLDER` that these rules and gates refused, if there are any.

    The accuracy that decided is 0.868 on the validation split.
    """
    found = {**run_facts.facts(), **parts}
    found["identity"] = {**found["identity"], "folder": FOLDER}
    if failed or refused_by != ("model",):
        found["push"] = made(Push, status="refused", refused_by=list(refused_by))
        decided_by = run_facts.decided_by(434, 500, "validation")
        found["gate"] = {**found["gate"], "failed": list(failed), "decided_by": decided_by}
    return found


def by_purpose(found: list[NextCommand]) -> dict[str, str]:
    """Return the commands by their purpose."""
    return {command["purpose"]: command["command"] for command in found}


def test_a_published_run_is_looked_at_mended_and_used():
    found = next_commands(facts(), "blessed")
    assert by_purpose(found) == {
        "look": "imgpipe open '/my out'",
        "mend": "imgpipe review '/my out'",
        "use": "imgpipe serve /out --model rps",
    }
    assert found[1]["text"] == "decide about 1 doubtful label"


def test_mistakes_of_the_model_are_not_called_doubtful_labels():
    found = facts()
    found["suspects"] |= {"doubtful": 0}
    mend = next_commands(found, "blessed")[1]
    assert mend["text"] == "look at 3 mistakes, the surest first"


@pytest.mark.parametrize(
    ("failed", "arguments"),
    [
        (("threshold",), "--set evaluate.threshold=0.86"),
        (("threshold", "class_recall"), "--set evaluate.threshold=0"),
        (("commonest_class",), "--set evaluate.threshold=0"),
        (("last_version",), "--set evaluate.max_drop=1"),
        (("threshold", "unlike_images"), "--set evaluate.threshold=0.86 --accept"),
    ],
)
def test_a_refused_model_is_published_by_what_its_rules_ask_for(
    failed: tuple[str, ...], arguments: str
):
    found = by_purpose(next_commands(facts(failed), "not_blessed"))
    assert list(found) == ["look", "mend", "try", "publish"]
    assert found["try"] == "imgpipe serve '/my out' --run newest"
    assert found["publish"] == f"imgpipe run --config '{FOLDER}/config.toml' {arguments}"


def test_the_time_is_that_of_the_components_that_are_not_cached():
    refused = facts(("threshold",))
    texts = [command["text"] for command in next_commands(refused, "not_blessed", _TIMINGS)]
    assert texts[3] == "publish it as it is, in about 15 s"  # all but the 20 s of the training
    cached = next_commands(refused, "not_blessed", _TIMINGS, ["ImageEvaluator"])
    assert cached[3]["text"] == "publish it as it is"


def test_the_lines_end_in_commands_that_a_shell_divides_as_they_are_meant():
    found = next_commands(facts(("threshold",)), "not_blessed", _TIMINGS)
    for (name, shown), command in zip(commands.shown(found).rows, found, strict=True):
        assert (name, shown) == (f"{command['text']}:", Command(command["command"]))
    config = shlex.split(found[3]["command"])[3]
    assert Path(config) == Path(FOLDER) / "config.toml"


_STOPPED = {"push": None, "gate": None, "suspects": None}
_WITHDRAWN = made(Push, status="refused", refused_by=["rollback"], withdrawn="2")
_AGAIN = f"imgpipe run --config '{FOLDER}/config.toml'"


@pytest.mark.parametrize(
    ("found", "status", "commands"),
    [
        (facts(suspects=None), "blessed", {"look": None, "use": None}),
        (facts(("serving",), ("model", "serving")), "not_blessed", {"look": None, "mend": None}),
        (facts((), ("rollback",)), "not_blessed", {"look": None, "mend": None}),
        (facts(**_STOPPED), "refused", {"look": None}),
        (facts(**_STOPPED), "failed", {"look": None, "again": _AGAIN}),
        (facts(**_STOPPED), "interrupted", {"look": None, "again": _AGAIN}),
        (
            facts((), ("other_version",)),
            "blessed",
            {"look": None, "mend": None, "publish": _AGAIN},
        ),
        (
            {**facts(), "push": _WITHDRAWN},
            "not_published",
            {"look": None, "mend": None, "publish": "imgpipe rollback '/my out' --to 2"},
        ),
        ({**facts(), "identity": None}, "blessed", {"use": None}),
    ],
)
def test_a_run_ends_with_the_commands_that_lead_somewhere(
    found: Facts, status: str, commands: dict[str, str | None]
):
    said = by_purpose(next_commands(found, status))
    assert list(said) == list(commands)
    for purpose, command in commands.items():
        assert command in (None, said[purpose])
