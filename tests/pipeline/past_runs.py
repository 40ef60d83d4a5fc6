"""Makes folders of past runs as `imgpipe run` leaves them, without running anything."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from imgpipe.components.image_evaluator.decision import Decision
from imgpipe.components.image_filter.summary import DataSummary
from imgpipe.components.model_pusher import versions
from imgpipe.components.model_pusher.versions import Push
from imgpipe.components.run_record import run_folder
from imgpipe.components.run_record.result import new
from imgpipe.components.run_record.run_folder import Timings
from imgpipe.models.training.history import History
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration import given_settings
from tests import image_tables
from tests.declared import made
from tests.run_results import decided_by

CLASSES = ("cat", "dog")
#: Names of the runs of `leave_three`.
FIRST, SECOND, LAST = "20260101-100000", "20260102-100000", "20260103-100000"
_THRESHOLD = 0.9
_JUDGED = 20  # images


def leave(
    out: Path,
    name: str,
    *,
    status: str = "blessed",
    correct: int | None = 18,
    images: tuple[int, int] = (40, 40),
    version: int | None = None,
    settings: tuple[str, ...] = (),
    artifacts: dict[str, dict[str, str]] | None = None,
    chosen: tuple[str, int] | None = None,
) -> Path:
    """Write the folder of a past run and return it.

    Args:
        status: Status of the run, such as "blessed" or "refused". If it is "", there is no result.
        correct: How many of 20 validation images were classified correctly; None for no evaluation.
        images: How many training images the classes cat and dog have.
        version: Number of the version that the run published, or None.
        settings: Settings of the run, such as `course.epochs=33`.
        artifacts: Paths of the artifacts by component and output; None if they were not recorded.
        chosen: What the head reads, and the size of its images; None if none was trained.
    """
    folder = out / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    config = configs.build({"run": {"out": str(out)}}, given_settings.assigned(settings))
    (folder / "config.toml").write_text(given_settings.to_toml(config))
    run_folder.note_start(folder, [])
    if artifacts is not None:
        (folder / "artifacts.json").write_text(json.dumps(artifacts))
    if not status:
        return folder
    parts = {"backbone": config.model.network, "image_size": 224, "classes": list(CLASSES)}
    counts = {
        "found": 99,
        "left_out": {},
        "in": 99,
        "kept": sum(images),
        "rejected": 99 - sum(images),
    }
    by_split = {"train": dict(zip(CLASSES, images, strict=True))}
    parts["data"] = made(DataSummary, **counts, by_split=by_split)
    if correct is not None:
        reached = correct / _JUDGED
        parts["gate"] = made(
            Decision,
            threshold=_THRESHOLD,
            decided_by=decided_by(correct, _JUDGED, "validation"),
            failed=[] if reached >= _THRESHOLD else ["threshold"],
            publishing=[]
            if reached >= _THRESHOLD
            else ["--set", f"evaluate.threshold={reached:g}"],
        )
    if chosen is not None:
        parts["image_size"] = chosen[1]
        parts["training"] = made(History, trained="head", image_size=chosen[1], features=chosen[0])
    if version is not None:
        path = f"model/{version}"
        parts["push"] = made(Push, status="pushed", version=str(version), path=path)
    elif correct is not None:
        parts["push"] = made(Push, status="refused", refused_by=["model"])
    result = new(
        status=status,
        verdict=f"{status}: a sentence",
        name="n",
        folder=f"runs/{name}",
        report=f"runs/{name}/report.html",
        timings=made(Timings, total_s=63.0, import_s=1.0),
        **parts,
    )
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "report.html").write_text("<p>page")
    return folder


def artifact(
    out: Path, run: str, component: str, output: str, number: int = 1
) -> dict[str, dict[str, str]]:
    """Write an artifact that a run has made; return what runs record of it."""
    folder = out / "runs" / run / "artifacts" / component / output / str(number)
    folder.mkdir(parents=True)
    (folder / "content").write_bytes(b"x" * 1000)
    return {component: {output: str(folder.relative_to(out))}}


def leave_quarantine(folder: Path, rows: Sequence[SimpleNamespace]) -> dict[str, dict[str, str]]:
    """Write the table of a run's images, and no manifest; return what the run records of it."""
    image_tables.write(folder, rows)
    return {"ImageFilter": {"quarantine": str(folder)}}


def leave_three(out: Path) -> Path:
    """Leave three runs in an output folder: versions 1 and 2, and one that was refused."""
    leave(out, FIRST, version=1)
    leave(out, SECOND, version=2)
    leave(out, LAST, status="refused", correct=None)
    for number in (1, 2):
        saved_model(out / "model" / str(number))
    return out


def saved_model(folder: Path) -> Path:
    """Make the files of a model by which it is recognised."""
    (folder / "assets").mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    (folder / "assets/vocabulary.txt").write_text("cat\ndog\n")
    return folder


def publish_two(out: Path) -> Path:
    """Publish versions 1 and 2, which hold two models, into an output folder, and return it."""
    saved = saved_model(out / "saved")
    for content in ("first", "second"):
        (saved / "saved_model.pb").write_text(content)
        versions.publish(out / "model", {"": saved}, {})
    return out
