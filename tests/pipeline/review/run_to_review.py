"""Makes a past run with doubtful labels, near-duplicates and rejected files, for a review."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from imgpipe.components.common.image_row import ImageFinding, PlacedImage
from imgpipe.components.run_record.doubtful_labels import ImageAnswers
from imgpipe.components.run_record.shown_images import Gallery
from imgpipe.pipeline.commands import review as command
from imgpipe.pipeline.output.run import Run
from tests import image_tables
from tests.declared import made
from tests.images import encoded, noise, soft
from tests.pipeline import past_runs

CLASSES = ("cat", "dog")
#: Content by path. The labels of `cat/0.png` and, in the test split, `dog/test.png` are doubtful.
IMAGES = {
    f"{label}/{n}.png": encoded(soft(n + 10 * i), "PNG")
    for i, label in ((0, "cat"), (1, "dog"))
    for n in range(3)
}
IMAGES["dog/test.png"] = encoded(noise(5), "PNG")
IMAGES["cat/hostile <img src=x onerror=alert(1)>.png"] = encoded(noise(6), "PNG")
IMAGES["cat/broken.jpg"] = b"no image"


def digest(path: str) -> str:
    return hashlib.sha256(IMAGES[path]).hexdigest()


def row(path: str, split: str = "train", **more: Any) -> SimpleNamespace:
    """Return what a run records about an image."""
    label = path.split("/")[0]
    labels = {"label": label, "label_index": CLASSES.index(label)}
    source = {"source_label": label, "source_index": CLASSES.index(label)}
    return image_tables.row(path, split=split, image_hash=digest(path), **labels, **source, **more)


def reject(path: str, reason: str, detail: str) -> SimpleNamespace:
    return row(path, findings=(ImageFinding(reason, detail, remedy="look at it"),))


def similar(reason: str, to: str) -> dict[str, Any]:
    """Return what a near-duplicate of another image has."""
    finding = ImageFinding(reason, f"similar to {to}", "warn", kept_copy=to)
    return {"near_group": 1, "findings": (finding,)}


CONFLICT = "near_duplicate_label_conflict"
#: The rows of the run, by path. The content of `cat/2.png` is that of a rejected copy, too.
ROWS = {
    image.path: image
    for image in (
        row("cat/0.png", **similar(CONFLICT, "dog/0.png")),
        row("cat/1.png", **similar("near_duplicate", "cat/0.png")),
        row("cat/2.png"),
        row("dog/0.png", **similar(CONFLICT, "cat/0.png")),
        row("dog/1.png"),
        reject("dog/2.png", "label_conflict", "same bytes as x"),
        row("dog/test.png", "test"),
        reject("cat/hostile <img src=x onerror=alert(1)>.png", "too_small", "9 x 9"),
        reject("cat/broken.jpg", "not_an_image", "unknown"),
    )
}
#: Answer, its probability, the probability that the label is wrong, and the distances, by path.
ANSWERS = {
    "cat/0.png": (1, 0.99, 0.95, 0.5, 0.5),
    "cat/1.png": (1, 0.8, 0.2, 0.1, 0.1),
    "cat/2.png": (0, 0.9, 0.0, 0.2, 0.2),
    "dog/0.png": (1, 0.6, 0.0, 3.0, 0.2),
    "dog/1.png": (1, 0.7, 0.0, 0.3, 0.3),
    "dog/test.png": (0, 0.97, 0.7, 3.5, 3.5),
}


def placed(image: SimpleNamespace) -> PlacedImage:
    """Return an image as all lists have it."""
    names = PlacedImage.__annotations__
    return made(PlacedImage, **{name: getattr(image, name) for name in names})


def typical(label: str, *paths: str) -> Gallery:
    """Return the gallery of a class with some typical images."""
    return made(Gallery, name=label, typical=[placed(ROWS[path]) for path in paths])


def write(folder: Path) -> Path:
    """Write the images into class folders below `folder`, and return it."""
    for path, data in IMAGES.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


def prepared(folder: Path, show: str = "") -> Any:
    """Return a review of a new run on the images."""
    return command.prepare(leave(folder / "out", write(folder / "photos")), None, show)


def leave(out: Path, source: Path | str, settings: Sequence[str] = ()) -> Run:
    """Write the folder of a past run on a source, and return the run."""
    past_runs.leave_quarantine(out / "artifacts/ImageFilter/quarantine/7", [*ROWS.values()])
    folder = past_runs.leave(
        out,
        "20260101-000000",
        settings=(f"data.source={json.dumps(str(source))}", *settings),
        artifacts={"ImageFilter": {"quarantine": "artifacts/ImageFilter/quarantine/7"}},
    )
    names = ("predicted", "sure", "wrong", "unlike_class", "unlike_all")
    columns = dict(zip(names, map(list, zip(*ANSWERS.values(), strict=True)), strict=True))
    answers = made(ImageAnswers, image_hash=[*map(digest, ANSWERS)], **columns)
    (folder / "answers.json").write_text(json.dumps(answers))
    result = Run.read(folder).result
    result["galleries"] = [typical("cat", "cat/2.png"), typical("dog", "dog/1.png")]
    (folder / "result.json").write_text(json.dumps(result))
    return Run.read(folder)
