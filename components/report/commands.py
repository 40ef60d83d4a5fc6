"""What a person can do after a run: commands that look, mend or use, and advice.

To add a rule of the advice, write one function and add one entry to `_RULES`, with the section of
the page that shows the fact and the command that follows the advice. A rule whose fact is missing
gives no advice.
"""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from imgpipe.components.common.formatting import plural, seconds
from imgpipe.components.report.blocks import Command, Figures
from imgpipe.components.run_record.result import whole
from imgpipe.components.run_record.run_folder import CONFIG
from imgpipe.models import names
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.settings.places import VERSIONS

if TYPE_CHECKING:
    from imgpipe.components.run_record.result import Result
    from imgpipe.models.head.solved_head import Solution


ACCEPT = "--accept"  # option of `imgpipe run`
#: Components that run again if only a setting of [evaluate] is changed. The others are cached.
_AGAIN = ("Plan", "ImageEvaluator", "ModelPusher", "Report")
_MINUTE = 60  # seconds
#: Number of sentences of advice that are given; with more, people read none.
MOST_ADVICE = 3
#: A class with fewer training images is called small, and so is one with less than this share of
#: the median class.
_FEW = 30
_SMALL_SHARE = 0.25
_ALIKE_SHARE = 0.5  # classes with at least this share of the largest one are about equally large
#: Below this accuracy of the head in cross-validation, fine-tuning often helps.
_HEAD_ALONE = 0.97
_SEARCH_MINUTES = 15  # for the search for a better network, where the run gave it no time
_FEWEST_CONFUSED = 2  # one mistake between two classes may be chance
_WORTHWHILE = 0.5  # points of accuracy for twice the images
_SHOWN = 0.05  # points; less is shown as 0.0


def next_commands(result: Result, moved: Sequence[str] = ()) -> list[Finding]:
    """Return the commands that go on from a run, with which it ends; see `Result`.

    Args:
        result: The result of the run. Where its folder is not known, as on Kubeflow, only the
            command that serves the model is.
        moved: Arguments of a run whose output folder was moved since, such as `--out OUT`.
    """
    out = shlex.quote(result["out"])
    folder = shlex.quote(whole(result, result["folder"]))
    status = result["status"]
    push = result["push"]
    commands: list[Finding] = []
    if result["folder"]:
        commands.append(_next("look", "look at the report", f"imgpipe open {folder}"))
        suspects = result["suspects"]
        if suspects is not None and suspects["disagree"]:
            text = "look at the mistakes, the surest first"
            if suspects["doubtful"]:
                text = f"decide about {plural(suspects['doubtful'], 'doubtful label')}"
            commands.append(_next("mend", text, review_command(result)))
    if push["path"]:
        served = serve_command(whole(result, push["path"]), result["name"])
        commands.append(_next("use", "use the model", served))
    elif not result["folder"]:
        return commands
    elif status == "refused" and _is_acceptable(result):
        command = run_command(result, [*moved, ACCEPT])
        commands.append(_next("again", "accept the change, and run it again", command))
    elif status in ("failed", "interrupted"):
        commands.append(_next("again", "run it again", run_command(result, moved)))
    elif push["withdrawn"]:
        command = f"imgpipe rollback {out} --to {push['withdrawn']}"
        commands.append(_next("publish", "publish it again", command))
    else:
        arguments = _publishing(result)
        if arguments:
            text = "try it without publishing it"
            commands.append(_next("try", text, f"imgpipe serve {folder}"))
        if arguments is not None:
            text = f"publish it as it is{_duration(result, arguments)}"
            commands.append(_next("publish", text, run_command(result, [*moved, *arguments])))
    return commands


def _next(purpose: str, text: str, command: str) -> Finding:
    return make_finding(purpose, text, [command])


def _is_acceptable(result: Result) -> bool:
    """Return whether a person can accept the images that DataGate has refused."""
    gate = result["data_gate"]
    reasons = gate["reasons"] if gate is not None else []
    return any(ACCEPT in remedy for reason in reasons for remedy in reason["remedies"])


def review_command(result: Result, show: str = "") -> str:
    """Return the command that reviews the images of a run; with OUT if its folder is not known.

    `show` is what comes first: a kind of images, a class, or `LABEL:ANSWER`; "" for the usual.
    """
    what = f" --show {shlex.quote(show)}" if show else ""
    folder = whole(result, result["folder"]) if result["folder"] else "OUT"
    return f"imgpipe review {shlex.quote(folder)}{what}"


def shown(commands: Sequence[Finding]) -> Figures:
    """Return each command behind what it does."""
    return Figures([(f"{each['sentence']}:", Command(*each["remedies"])) for each in commands])


def run_command(result: Result, arguments: Sequence[str] = ()) -> str:
    """Return the command that runs the pipeline again with the settings of a run.

    Args:
        result: The result of the run.
        arguments: Further arguments, such as `--accept`.
    """
    config = f"{whole(result, result['folder'])}/{CONFIG}"
    return shlex.join(["imgpipe", "run", "--config", config, *arguments])


def serve_command(version: str, model: str) -> str:
    """Return the command that serves a published version and those after it.

    `version` is its path or URI, such as `OUT/model/3`; the command names `OUT` where the versions
    lie in its usual folder on this machine. `model` is its name in requests, as in `run.name`.
    """
    base = version.rstrip("/").rpartition("/")[0] or version
    above, _, name = base.rpartition("/")
    folder = above if above and name == VERSIONS and "://" not in base else base
    named = "" if model == names.SERVED_NAME else f" --model {shlex.quote(model)}"
    return f"imgpipe serve {shlex.quote(folder)}{named}"


def _publishing(result: Result) -> list[str] | None:
    """Return the arguments with which the same run publishes its model; None if there are none.

    Nothing publishes a model that cannot be served, that could not be evaluated, or that a
    rollback withdrew: `imgpipe rollback --to` serves that one again.
    """
    gate = result["gate"]
    push = result["push"]
    if gate is None or "rollback" in push["refused_by"] or "serving" in push["refused_by"]:
        return None
    return gate["publishing"]


def _duration(result: Result, arguments: Sequence[str]) -> str:
    """Say how long the run takes with other settings of [evaluate]; "" if that is not known.

    With `ACCEPT` the components after DataGate run again, too.
    """
    timings = result["timings"]
    components = timings["components"]
    if ACCEPT in arguments or "ImageEvaluator" not in components.keys() - {*result["cached"]}:
        return ""
    others = sum(time for name, time in components.items() if name not in _AGAIN)
    left = timings["total_s"] - others
    time = f"{max(round(left), 1)} s" if left < _MINUTE else seconds(left)
    return f", in about {time}"


def advice(result: Result) -> list[Finding]:
    """Return at most `MOST_ADVICE` things to do, those that help most first.

    The reason of each is the section of the page that shows the fact, the sentence is the fact and
    what to do, and the remedy is the whole command that does it. There is none where no command
    does, or where the folder of the run is not known, as on Kubeflow.
    """
    proposals = []
    for rule, section, command in _RULES:
        remedies = [command(result)] if result["folder"] and command is not None else []
        proposals.append(make_finding(section, rule(result), remedies))
    return [proposal for proposal in proposals if proposal["sentence"]][:MOST_ADVICE]


def would_more_help(solution: Solution) -> str:
    """Say what the last doubling of the training images gained, if the curve has two points."""
    curve = solution["learning_curve"] or []
    if len(curve) < 2:
        return ""
    before, after = curve[-2:]
    gained = 100 * (after["accuracy"] - before["accuracy"])
    seen = f"From {before['images']:,} to {after['images']:,} training images, accuracy "
    error = math.inf if solution["gain_error"] is None else 100 * solution["gain_error"]
    if _WORTHWHILE <= abs(gained) < error:
        verb = "rose" if gained > 0 else "fell"
        return f"{seen}{verb} by {abs(gained):.1f} points, which may be chance."
    if gained >= _WORTHWHILE:
        return f"{seen}rose by {gained:.1f} points, so that more images would probably help."
    change = f"fell by {-gained:.1f} points" if gained < 0 else f"rose by only {gained:.1f} points"
    if abs(gained) < _SHOWN:
        change = "did not change"
    return f"{seen}{change}, so that more such images would help little."


def _doubtful_labels(result: Result) -> str:
    suspects = result["suspects"]
    if suspects is None or not suspects["doubtful"]:
        return ""
    verb = "is" if suspects["doubtful"] == 1 else "are"
    return (
        f"{suspects['doubtful']:,} of {plural(suspects['images'], 'label')} {verb} doubtful. "
        "Look at that first, and correct what is wrong in the data."
    )


def _small_class(result: Result) -> str:
    """Name the class with far fewer training images than the others, or with few of them."""
    counts = result["data"]["by_split"][names.TRAIN] if result["data"] is not None else {}
    if len(counts) < 2 or not any(counts.values()):
        return ""
    name, least = min(counts.items(), key=lambda entry: entry[1])
    usual = statistics.median(counts.values())
    if least >= _FEW and least >= _SMALL_SHARE * usual:
        return ""
    most = max(counts.values())
    if least >= _ALIKE_SHARE * most:
        return f"Each class has at most {plural(most, 'training image')}. Add images of all."
    median_of_classes = f" (the median class has {usual:g})" if usual > least else ""
    few = plural(least, "training image")
    return f"Class {name} has only {few}{median_of_classes}. Add images of it first."


def _fine_tuning(result: Result) -> str:
    """Propose what lets more layers train if the head on the frozen features is not enough."""
    training = result["training"]
    solution = training["solution"] if training is not None else None
    accuracy = solution["accuracy"] if solution is not None else None
    if training is None or accuracy is None or accuracy >= _HEAD_ALONE:
        return ""
    search_ended = training["search_ended"]
    reached = f"In cross-validation the head, the last layer, reaches {accuracy:.3f}"
    if search_ended is not None and search_ended["reason"] == "few_mistakes":
        return (
            f"{reached}, but too few images are held out to show whether another network is "
            "better. Add images, so that the search for a better network can run."
        )
    # A search has tried it, a person does not want it, or a run with folds does not search.
    unwanted = "course.fine_tune.mode" in result["changed"] or result["cross_validate"] > 0
    if training["fine_tune"] or training["search"] or unwanted:
        return ""
    return (
        f"{reached}. In {_SEARCH_MINUTES} minutes further layers are trained too, which often "
        f"helps where the head reaches less than {_HEAD_ALONE:g}."
    )


def _more_time(result: Result) -> str:
    search_ended = result["training"]["search_ended"] if result["training"] is not None else None
    if search_ended is None or search_ended["reason"] not in ("few_images", "cost", "minutes"):
        return ""
    return "With more time, a search may find a network that is better than this one."


def _confused_classes(result: Result) -> str:
    """Name the two classes that are most often taken for each other, by labels beyond doubt."""
    from imgpipe.components.run_record.metrics import confused_pairs  # not for a list of runs

    classes = result["classes"]
    deciding = result["answers"]
    suspects = result["suspects"]
    if deciding is None or len(classes) < 3:
        return ""
    cells = [*deciding["confusion"]]
    by_validation = deciding["judged_by"] == names.VALIDATION
    splits = (names.VALIDATION,) if by_validation else (names.TRAIN, names.VALIDATION)
    for row in suspects["rows"][: suspects["doubtful"]] if suspects is not None else ():
        if row["split"] in splits:
            cells.append([classes.index(row["label"]), classes.index(row["looks_like"]), -1])
    wrong = confused_pairs(cells)
    [((first, second), count)] = wrong.most_common(1) or [((0, 0), 0)]
    if count < _FEWEST_CONFUSED:
        return ""
    return (
        f"{classes[first]} and {classes[second]} are confused most: {count:,} of "
        f"{plural(wrong.total(), 'mistake')}. Add images that show the difference between the two."
    )


def _longer(result: Result) -> str:
    return _run(result, "--minutes", str(_SEARCH_MINUTES))


def _run(result: Result, *arguments: str) -> str:
    return run_command(result, arguments)


def _more_images(result: Result) -> str:
    solution = result["training"]["solution"] if result["training"] is not None else None
    return would_more_help(solution) if solution is not None else ""


#: Rules with the section that shows their fact, and the command that follows their advice.
_RULES: tuple[tuple[Callable[[Result], str], str, Callable[[Result], str] | None], ...] = (
    (_doubtful_labels, "doubtful_labels", review_command),
    (_small_class, "data", _run),
    (_fine_tuning, "training", _longer),
    (_more_time, "training", _longer),
    (_more_images, "more_images", None),
    (_confused_classes, "taken_for", _run),
)
