"""The commands after a run: each whole, and only those that lead somewhere."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from imgpipe.components.model_pusher.push import NOT_PUBLISHED, Push
from imgpipe.components.report import commands
from imgpipe.components.report.blocks import Command
from imgpipe.components.report.commands import next_commands
from imgpipe.components.run_record.result import Result
from imgpipe.components.run_record.run_folder import Timings
from imgpipe.models.finding import Finding
from tests import run_results
from tests.declared import made

OUT = "/my out"
FOLDER = f"{OUT}/runs/20260131-140559"
_SECONDS = {"ImageTrainer": 20.0, "ImageEvaluator": 4.0, "ModelPusher": 1.0, "Report": 2.0}


def ended(
    status: str,
    failed: tuple[str, ...] = (),
    refused_by: tuple[str, ...] = ("model",),
    **parts: Any,
) -> Result:
    """Return the result of a run in `FOLDER` that these rules and gates refused, if there are any.

    The accuracy that decided is 0.868 on the validation split.
    """
    found: Any = {**run_results.result(), "status": status, "out": OUT, **parts}
    if failed or refused_by != ("model",):
        found["push"] = made(Push, status="refused", refused_by=list(refused_by))
        decided_by = run_results.decided_by(434, 500, "validation")
        found["gate"] = {**found["gate"], "failed": list(failed), "decided_by": decided_by}
    return found  # type: ignore[no-any-return]


def by_purpose(found: list[Finding]) -> dict[str, str]:
    """Return the commands by their purpose."""
    return {step["reason"]: step["remedies"][0] for step in found}


def test_a_published_run_is_looked_at_mended_and_used():
    found = next_commands(ended("blessed"))
    assert by_purpose(found) == {
        "look": "imgpipe open '/my out'",
        "mend": "imgpipe review '/my out'",
        "use": "imgpipe serve '/my out' --model rps",
    }
    assert found[1]["sentence"] == "decide about 1 doubtful label"


def test_mistakes_of_the_model_are_not_called_doubtful_labels():
    found: Any = ended("blessed")
    found["suspects"] |= {"doubtful": 0}
    mend = next_commands(found)[1]
    assert mend["sentence"] == "look at the mistakes, the surest first"


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
    found = by_purpose(next_commands(ended("not_blessed", failed)))
    assert list(found) == ["look", "mend", "try", "publish"]
    assert found["try"] == "imgpipe serve '/my out' --run newest"
    assert found["publish"] == f"imgpipe run --config '{FOLDER}/config.toml' {arguments}"


def test_the_time_is_that_of_the_components_that_are_not_cached():
    timings = made(Timings, total_s=35.0, import_s=5.0, components=_SECONDS)
    refused = ended("not_blessed", ("threshold",), timings=timings)
    # All but the 20 s of the training.
    assert next_commands(refused)[3]["sentence"] == "publish it as it is, in about 15 s"
    refused["cached"] = ["ImageEvaluator"]
    assert next_commands(refused)[3]["sentence"] == "publish it as it is"


def test_the_lines_end_in_commands_that_a_shell_divides_as_they_are_meant():
    found = next_commands(ended("not_blessed", ("threshold",)))
    for (name, shown), step in zip(commands.shown(found).rows, found, strict=True):
        assert (name, shown) == (f"{step['sentence']}:", Command(step["remedies"][0]))
    config = shlex.split(found[3]["remedies"][0])[3]
    assert Path(config) == Path(FOLDER) / "config.toml"


_STOPPED = {"push": NOT_PUBLISHED, "gate": None, "suspects": None}
_WITHDRAWN = made(Push, status="refused", refused_by=["rollback"], withdrawn="2")
_AGAIN = f"imgpipe run --config '{FOLDER}/config.toml'"


@pytest.mark.parametrize(
    ("found", "commands"),
    [
        (ended("blessed", suspects=None), {"look": None, "use": None}),
        (ended("not_blessed", ("serving",), ("model", "serving")), {"look": None, "mend": None}),
        (ended("not_blessed", (), ("rollback",)), {"look": None, "mend": None}),
        (ended("refused", **_STOPPED), {"look": None}),
        (ended("failed", **_STOPPED), {"look": None, "again": _AGAIN}),
        (ended("interrupted", **_STOPPED), {"look": None, "again": _AGAIN}),
        (
            ended("blessed", (), ("other_version",)),
            {"look": None, "mend": None, "publish": _AGAIN},
        ),
        (
            ended("not_published", push=_WITHDRAWN),
            {"look": None, "mend": None, "publish": "imgpipe rollback '/my out' --to 2"},
        ),
        (ended("blessed", folder=""), {"use": None}),
    ],
)
def test_a_run_ends_with_the_commands_that_lead_somewhere(
    found: Result, commands: dict[str, str | None]
):
    said = by_purpose(next_commands(found))
    assert list(said) == list(commands)
    for purpose, command in commands.items():
        assert command in (None, said[purpose])
