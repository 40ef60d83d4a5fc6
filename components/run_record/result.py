"""The result of run, check, evaluate and drift: what is returned, written, printed and drawn.

It is composed of what the components have found, each part as it is declared where it is made. A
run that was refused or failed has a result too: a part is null or empty if the run did not get that
far, and in the result of a command that does not have it. The result of a run is `result.json` in
its folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.image_row import FileFinding
from imgpipe.components.common.storage.manifest import LAYOUT
from imgpipe.components.data_gate.rules import DataDecision, FeatureDistance
from imgpipe.components.image_evaluator.decision import BaselineState, Decision, ServingCheck
from imgpipe.components.image_filter.summary import DataSummary
from imgpipe.components.model_pusher.versions import NOT_PUBLISHED, Push
from imgpipe.components.run_record import run_folder
from imgpipe.components.run_record.doubtful_labels import DoubtfulLabels
from imgpipe.components.run_record.metrics import JudgedAnswers, SliceGroup, SplitMetrics
from imgpipe.components.run_record.run_folder import UNTIMED, Identity, Timings
from imgpipe.components.run_record.shown_images import Gallery, ImageMap
from imgpipe.models.features.bank import BankFacts
from imgpipe.models.finding import Finding
from imgpipe.models.settings.given import Given
from imgpipe.models.settings.section import changed
from imgpipe.models.training.history import Folds, History

Status = Literal[
    "blessed",
    "not_blessed",
    "not_published",
    "refused",
    "failed",
    "interrupted",
    "working",
    "killed",
    "damaged",
    "clean",
    "usable",
    "evaluated",
    "below_threshold",
    "drift",
    "no_drift",
    "not_compared",
]


class CheckedFiles(TypedDict):
    """Files with a finding, as a check lists them."""

    repaired: Annotated[list[FileFinding], "Files that a run would re-encode."]
    warned: Annotated[list[FileFinding], "Kept files with a warning."]
    reviewed: Annotated[list[FileFinding], "Files with an override."]


class SeenImage(TypedDict):
    """An image, or a near-duplicate of one, that was in the data of the run of the model."""

    path: Annotated[str, "Path in the source."]
    split: Annotated[str, "Split of the image in the run."]


class SeenCounts(TypedDict):
    """Images that were in the data of the run that made the model."""

    count: Annotated[int, "Number of images."]
    by_split: Annotated[dict[str, int], "Number of images by split in the run."]
    first: Annotated[list[SeenImage], "The first of these images."]


class EvaluatedModel(TypedDict):
    """The model of an evaluation, and the images that its figures leave out or should."""

    model: Annotated[str, "Folder of the version."]
    version: Annotated[
        int | None, "Number of the version; null if its folder is not named by a number."
    ]
    images: Annotated[
        int, "Number of images of the source, including those that could not be evaluated."
    ]
    unknown_labels: Annotated[
        dict[str, int],
        "Number of images whose label is not a class of the model, by label; they are not "
        "evaluated.",
    ]
    seen: Annotated[
        SeenCounts | None,
        "Images that were in the data of the run that made the model, or near-duplicates of them; "
        "null if the images of that run are gone.",
    ]


class ComparedRequests(TypedDict):
    """The requests to a version that were compared with its training data."""

    version: Annotated[int, "The version that answered."]
    answers: Annotated[int, "Number of its answers."]
    images: Annotated[int, "Number of its answers whose image the log holds."]
    different_images: Annotated[int, "Number of different images among these."]
    measured: Annotated[int, "Number of different images that were measured."]
    first: Annotated[str, "Time of the first answer."]
    last: Annotated[str, "Time of the last answer."]
    labels: Annotated[dict[str, int], "Number of answers by label."]
    comparisons: Annotated[list[FeatureDistance], "The comparisons of all properties."]


class Result(TypedDict):
    """The result of a run, a check, an evaluation, or of the comparison of requests.

    All fields are always present. A part is null or empty where there is none. Paths are relative
    to the output folder of a run, if they lie in it.
    """

    schema: Annotated[int, f"Version of this format, {LAYOUT}."]
    status: Annotated[
        Status,
        "How it ended. not_published: the model is blessed, but a rollback has withdrawn it, or "
        "another version was published meanwhile. Of a run that is `working`, was `killed`, or is "
        "`damaged`, nothing else is known.",
    ]
    verdict: Annotated[str, "The decision as a sentence."]
    error: Annotated[str, "Why the run stopped; empty if it did not."]
    failed: Annotated[str, "The step that stopped it; empty if none did."]
    findings: Annotated[
        list[Finding], "Findings about the result; those about the images are in `data`."
    ]
    next: Annotated[
        list[Finding],
        "The commands that go on from a run, of which the first three end it: `remedies` holds the "
        "command, `sentence` what it does, and `reason` what for: `look` at the report, `mend` the "
        "data, `use` the model, `publish` or `try` one that was not published, or run `again`.",
    ]
    name: Annotated[str, "Name of the pipeline and of the served model."]
    source: Annotated[str, "The source of the images."]
    classes: Annotated[list[str], "Class names, in the order of the probabilities."]
    backbone: Annotated[str, "Name of the backbone."]
    image_size: Annotated[int, "Width and height of the images that the exported network sees."]
    cross_validate: Annotated[int, "Number of folds that the settings ask for; 0 for none."]
    fingerprint: Annotated[str, "Fingerprint of the source."]
    seeds: Annotated[dict[str, int], "Seeds by what they decide."]
    changed: Annotated[dict[str, Any], "Settings that differ from the defaults."]
    data: Annotated[DataSummary | None, "The images; null if none was inspected."]
    data_gate: Annotated[DataDecision | None, "Whether the data was accepted."]
    rejected: Annotated[list[FileFinding], "Files that are, or would be, put into quarantine."]
    files: Annotated[
        CheckedFiles | None, "The other files with a finding; null for a run, whose table has them."
    ]
    quarantine: Annotated[str, "Folder of the rejected files; empty without one."]
    bank: Annotated[BankFacts | None, "The features; null if none were computed."]
    training: Annotated[History | None, "The training; null if there was none."]
    baseline: Annotated[BaselineState | None, "The version that the model was compared with."]
    gate: Annotated[Decision | None, "The evaluation; null if no model was evaluated."]
    serving: Annotated[list[ServingCheck] | None, "What a server answered; null without a check."]
    push: Annotated[Push, "Whether the model was published, and where it is."]
    evaluation: Annotated[EvaluatedModel | None, "What `imgpipe evaluate` evaluated."]
    requests: Annotated[ComparedRequests | None, "What `imgpipe drift` compared."]
    metrics: Annotated[
        dict[str, SplitMetrics],
        "Metrics by what was measured: what decided (`folds` or `validation`) and `test`, or "
        "`evaluation`.",
    ]
    answers: Annotated[JudgedAnswers | None, "Answers that decide; null if no model answers."]
    slices: Annotated[list[SliceGroup], "Accuracy by kind of image."]
    suspects: Annotated[
        DoubtfulLabels | None, "Doubtful labels; null with too few images for a ranking."
    ]
    galleries: Annotated[list[Gallery], "Images of each class that the page shows."]
    map: Annotated[ImageMap | None, "The map of the images; null without features."]
    identity: Annotated[Identity | None, "When and how a run was started."]
    timings: Annotated[Timings, "Times in seconds."]
    cached: Annotated[list[str], "Components whose outputs were taken from an earlier run."]
    out: Annotated[str, "The output folder; empty without one."]
    folder: Annotated[str, "Folder of the run; empty without one."]
    report: Annotated[str | None, "Path of the report; null if none was written."]
    log: Annotated[str, "Path of the log; empty without one."]


_RESULT = TypeAdapter(Result)
#: Types of the fields that are empty, and not null, where nothing is known.
_EMPTY = (str, int, list, dict)


def new(**parts: Any) -> Result:
    """Return a result of which only some parts are known."""
    unknown: dict[str, Any] = {}
    for name, kind in get_type_hints(Result).items():
        plain_kind = get_origin(kind) or kind
        unknown[name] = plain_kind() if plain_kind in _EMPTY else None
    usual = {"schema": LAYOUT, "status": "failed", "push": NOT_PUBLISHED, "timings": UNTIMED}
    return cast("Result", {**unknown, **usual, **parts})


def of_settings(given: Given) -> dict[str, Any]:
    """Return the parts of a result that are known before a run begins."""
    settings, facts = given
    return {
        "name": settings.run.name,
        "source": settings.data.source,
        "classes": list(facts.vocabulary),
        "cross_validate": settings.folds,
        "backbone": settings.model.network,
        "image_size": settings.size,
        "fingerprint": facts.fingerprint,
        "seeds": {"split": settings.split.seed, "train": settings.train.seed},
        "changed": changed(settings),
    }


def read(content: object) -> Result:
    """Check the parsed JSON of a result; fields that it does not declare are left out.

    Raises:
        ValueError: It is no result; the message says what is wrong with its first field.
    """
    try:
        return _RESULT.validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def placed(result: Result, directory: str) -> Result:
    """Return the result of a run with what its folder tells, and its paths relative to OUT.

    The folder is "" if there is none.
    """
    out = str(Path(directory).parent.parent) if directory else ""
    log = f"{directory}/{run_folder.LOG}"
    push = result["push"]
    path = push["path"] and inside(push["path"], out)
    return {
        **result,
        "identity": run_folder.read_identity(directory),
        "timings": run_folder.read_timings(directory),
        "out": out,
        "folder": inside(directory, out),
        "log": inside(log, out) if Path(log).is_file() else "",
        "quarantine": inside(result["quarantine"], out),
        "push": {**push, "path": path},
    }


def inside(path: str, out: str) -> str:
    """Return a path relative to the output folder; one that lies elsewhere stays as it is."""
    return path.removeprefix(f"{out}/") if out else path


def whole(result: Result, path: str) -> str:
    """Return a path of a result as a whole one, where the output folder is now."""
    is_whole = path.startswith("/") or "://" in path or not result["out"]
    return path if is_whole else f"{result['out']}/{path}"


def folds_of(result: Result) -> Folds | None:
    """Return the cross-validation of a run; None where the validation split decides."""
    return result["training"]["cross_validation"] if result["training"] is not None else None


def judged(result: Result) -> SplitMetrics | None:
    """Return the metrics of the answers that decide; None if no model answers."""
    answers = result["answers"]
    return result["metrics"].get(answers["judged_by"]) if answers is not None else None


class WithResult:
    """What is told by a result: a run, a check, an evaluation.

    Attributes:
        result: What the command writes with `--json`, which the reference documents.
    """

    result: Result

    @property
    def status(self) -> Status:
        """How it ended."""
        return self.result["status"]

    @property
    def verdict(self) -> str:
        """The sentence that the command prints; "" of a run that left no result."""
        return self.result["verdict"]

    @property
    def metrics(self) -> Mapping[str, SplitMetrics]:
        """Metrics such as `accuracy` and `per_class`, by what was measured.

        Their keys are `folds` or `validation`, whichever decided, and `test`, or `evaluation`. It
        is empty without a model.
        """
        return self.result["metrics"]
