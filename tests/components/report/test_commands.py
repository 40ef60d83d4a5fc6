"""The commands after a run lead somewhere, and each piece of advice has its fact."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from imgpipe.components.model_pusher.versions import NOT_PUBLISHED, Push
from imgpipe.components.report import commands
from imgpipe.components.report.blocks import Command
from imgpipe.components.report.commands import next_commands
from imgpipe.components.run_record.doubtful_labels import DoubtfulLabel, DoubtfulLabels
from imgpipe.components.run_record.metrics import judged_answers
from imgpipe.components.run_record.result import Result, new
from imgpipe.components.run_record.run_folder import Timings
from imgpipe.models.finding import Finding
from imgpipe.models.head.solved_head import Solution
from imgpipe.models.training.history import Epoch, FineTuned, Tried
from tests import run_results
from tests.answer_tables import of_cells
from tests.declared import made
from tests.pages import render
from tests.run_results import data_summary, history, result

OUT = "/my out"
FOLDER = f"{OUT}/runs/20260131-140559"
_SECONDS = {"ImageTrainer": 20.0, "ImageEvaluator": 4.0, "ModelPusher": 1.0, "Report": 2.0}


def ended(
    status: str,
    failed: tuple[str, ...] = (),
    refused_by: tuple[str, ...] = ("model",),
    publishing: Sequence[str] | None = ("--set", "evaluate.threshold=0.86"),
    **parts: Any,
) -> Result:
    """Return the result of a run with accuracy 0.868 that these rules and gates refused."""
    found: Any = {**run_results.result(), "status": status, "out": OUT, **parts}
    if failed or refused_by != ("model",):
        found["push"] = made(Push, status="refused", refused_by=list(refused_by))
        decided_by = run_results.decided_by(434, 500, "validation")
        gate = {**found["gate"], "failed": list(failed), "decided_by": decided_by}
        found["gate"] = {**gate, "publishing": publishing if failed else []}
    return found  # type: ignore[no-any-return]


def by_purpose(found: list[Finding]) -> dict[str, str]:
    return {step["reason"]: step["remedies"][0] for step in found}


def test_a_published_run_is_looked_at_mended_and_used():
    found = next_commands(ended("blessed"))
    assert by_purpose(found) == {
        "look": f"imgpipe open '{FOLDER}'",
        "mend": f"imgpipe review '{FOLDER}'",
        "use": "imgpipe serve '/my out' --model rps",
    }
    assert found[1]["sentence"] == "decide about 1 doubtful label"


def test_mistakes_of_the_model_are_not_called_doubtful_labels():
    found: Any = ended("blessed")
    found["suspects"] |= {"doubtful": 0}
    mend = next_commands(found)[1]
    assert mend["sentence"] == "look at the mistakes, the surest first"


@pytest.mark.parametrize(
    ("publishing", "arguments"),
    [
        (
            ["--set", "evaluate.threshold=0.86", "--accept"],
            " --set evaluate.threshold=0.86 --accept",
        ),
        ([], ""),
    ],
)
def test_a_refused_model_is_published_by_what_its_decision_says(publishing, arguments):
    refused = ended("not_blessed", ("threshold",), publishing=publishing)
    found = by_purpose(next_commands(refused))
    assert list(found) == ["look", "mend", *(["try"] if arguments else []), "publish"]
    assert found.get("try") in (None, f"imgpipe serve '{FOLDER}'"), "this run, and no later one"
    assert found["publish"] == f"imgpipe run --config '{FOLDER}/config.toml'{arguments}"


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
        (ended("blessed", (), ("other_version",)), {"look": None, "mend": None, "publish": _AGAIN}),
        (
            ended("not_published", push=_WITHDRAWN),
            {"look": None, "mend": None, "publish": "imgpipe rollback '/my out' --to 2"},
        ),
        (ended("blessed", folder=""), {"use": None}),
    ],
)
def test_a_run_ends_with_the_commands_that_lead_somewhere(found, commands):
    said = by_purpose(next_commands(found))
    assert list(said) == list(commands)
    for purpose, command in commands.items():
        assert command in (None, said[purpose])


def run(**parts):
    """Return the result of a run of which nothing is known but these parts."""
    return new(**{"name": "run", "classes": ["cat", "dog", "owl"], **parts})


def trained(**values):
    return run(training=history(**values))


def solved(history_values=None, **values):
    """Return the result of a run whose head was solved, with further facts about the solution."""
    solution = made(Solution, folds=5, images=100, **values)
    return trained(stopped="solved", solution=solution, **history_values or {})


def unseen(**values):
    """Return the result of a run whose head made too few mistakes for a search."""
    end = made(Finding, reason="few_mistakes")
    return solved({"search": [made(Tried)], "search_ended": end}, **values)


def doubted(count):
    """Return the result of a run with a number of doubtful labels among three mistakes."""
    rows = [made(DoubtfulLabel, label="cat", looks_like="dog") for _ in range(3)]
    return run(suspects=made(DoubtfulLabels, images=373, doubtful=count, rows=rows))


def trained_on(**counts):
    return run(data=data_summary(by_split={"train": counts}))


def confused(*cells):
    """Return the result of a run with these cells of the matrix: label, prediction, count."""
    answers = judged_answers("folds", None, of_cells("abc", *cells))
    return run(classes=["a", "b", "c"], answers=answers)


def confused_by_labels(*rows):
    """Return the result of a run with doubtful labels, each with another answer and its split."""
    doubtful = [
        made(DoubtfulLabel, label=label, looks_like=answer, split=split)
        for label, answer, split in rows
    ]
    suspects = made(DoubtfulLabels, doubtful=len(rows), rows=doubtful)
    return confused((0, 1, 3), (1, 0, 2), (2, 0, 4)) | {"suspects": suspects}


def curve(accuracy):
    """Return a learning curve of two points with these accuracies."""
    return [{"images": images, "accuracy": accuracy(images)} for images in (400, 800)]


EPOCHS = [made(Epoch)] * 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (doubted(2), "2 of 373 labels are doubtful."),
        (doubted(1), "1 of 373 labels is doubtful"),
        (trained_on(cat=12, dog=80, owl=90), "only 12 training images (the median class has 80)."),
        (trained_on(cat=40, dog=900, owl=800), "Class cat has only 40"),
        (trained_on(cat=4, dog=4), "Each class has at most 4 training images."),
        (trained_on(cat=29, dog=34), "Each class has at most 34 training images."),
        (
            solved(accuracy=0.931),
            "the head, the last layer, reaches 0.931. In 15 minutes further layers are",
        ),
        (
            unseen(accuracy=0.802),
            "reaches 0.802, but too few images are held out to show whether another network is",
        ),
        (
            trained(search_ended=made(Finding, reason="minutes")),
            "With more time, a search may find a network that is better than this one.",
        ),
        (
            solved(learning_curve=curve(lambda n: n / 1000), gain_error=0.02),
            "From 400 to 800 training images, accuracy rose by 40.0 points, so that more",
        ),
        (
            solved(learning_curve=curve(lambda n: 0.85 + n / 40000), gain_error=0.011),
            "accuracy rose by 1.0 points, which may be chance.",
        ),
        (
            solved(learning_curve=curve(lambda n: 0.85 + n / 40000), gain_error=0.009),
            "accuracy rose by 1.0 points, so that more images would probably help.",
        ),
        (
            solved(learning_curve=curve(lambda n: 1 - n / 40000), gain_error=0.011),
            "accuracy fell by 1.0 points, which may be chance.",
        ),
        (
            solved(learning_curve=curve(lambda n: n / 1000)),
            "accuracy rose by 40.0 points, which may be chance.",
        ),
        (solved(learning_curve=curve(lambda _: 0.9)), "more such images would help little"),
        (confused((0, 0, 9), (0, 1, 3), (1, 0, 2), (2, 0, 4)), "a and b are confused most: 5 of 9"),
        (
            confused_by_labels(("a", "b", "train"), ("b", "a", "train"), ("c", "a", "test")),
            "a and c are confused most: 4 of 7 mistakes.",
        ),
    ],
)
def test_a_fact_leads_to_its_advice(given, words):
    assert any(words in said["sentence"] for said in commands.advice(given))


@pytest.mark.parametrize(
    "given",
    [
        run(),
        doubted(0),
        trained_on(cat=80, dog=90),
        trained_on(cat=3),
        solved(accuracy=0.99),
        unseen(accuracy=0.99),
        solved({"fine_tune": made(FineTuned, epochs=EPOCHS)}, accuracy=0.9),
        solved({"search": [made(Tried)] * 2}, accuracy=0.9),
        solved(accuracy=0.8) | {"cross_validate": 5},
        solved(accuracy=0.8) | {"changed": {"course.fine_tune.mode": "off"}},
        trained(search_ended=made(Finding, reason="all")),
        solved(learning_curve=[{"images": 400, "accuracy": 0.9}]),
        confused((0, 0, 9), (0, 1, 1)),
    ],
)
def test_without_its_fact_there_is_no_advice(given):
    assert commands.advice(given) == []


def test_the_page_gives_at_most_three_pieces_of_advice_after_the_verdict():
    head = solved(accuracy=0.9, learning_curve=curve(lambda n: n / 1000))
    given = result() | {"training": head["training"], "suspects": doubted(1)["suspects"]}
    given["data"]["by_split"]["train"]["rock"] = 2
    assert len(commands.advice(given)) == commands.MOST_ADVICE
    page = render(given, {})
    positions = [page.index(f'id="{name}"') for name in ("verdict", "next_steps", "by_class")]
    assert positions == sorted(positions)
    steps = page[positions[1] : positions[2]]
    assert steps.count("<li>") == commands.MOST_ADVICE
    assert 'href="#doubtful_labels"' in steps
    words = "<span>imgpipe</span> <span>review</span> <span>/work/out/runs/20260131-140559</span>"
    assert f"<pre>{words}</pre>" in steps, "the folder of the run, and no break inside a word"


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (doubted(1), "imgpipe review '/a b/runs/1'"),
        (solved(accuracy=0.931), "imgpipe run --config '/a b/runs/1/config.toml' --minutes 15"),
        (trained_on(cat=12, dog=80, owl=90), "imgpipe run --config '/a b/runs/1/config.toml'"),
    ],
)
def test_advice_has_the_whole_command_where_the_folder_of_the_run_is_known(given, command):
    assert [said["remedies"] for said in commands.advice(given)] == [[]]
    (said,) = commands.advice(given | {"out": "/a b", "folder": "runs/1"})
    assert said["remedies"] == [command]
