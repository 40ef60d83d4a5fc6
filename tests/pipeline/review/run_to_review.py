"""Makes a past run with doubtful labels, near-duplicates and rejected files, for a review."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imgpipe.components.common.image_record import NamedImage
from imgpipe.components.image_filter.judge.check import Row
from imgpipe.components.run_record.doubtful_labels import DoubtfulLabel, DoubtfulLabels
from imgpipe.components.run_record.facts import empty, page_settings
from imgpipe.components.run_record.shown_images import Gallery, ShownNearDuplicates
from imgpipe.pipeline.output import past_run
from imgpipe.pipeline.output.past_run import PastRun
from tests.declared import made
from tests.images import encoded, noise, soft
from tests.pipeline import past_runs

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
    """Return the content hash of an image."""
    return hashlib.sha256(IMAGES[path]).hexdigest()


def row(path: str, split: str = "train", **more: Any) -> dict[str, Any]:
    """Return what a run records about an image."""
    return {
        "path": path,
        "image_hash": digest(path),
        "label": path.split("/")[0],
        "split": split,
        **more,
    }


def facts() -> dict[str, Any]:
    """Return the facts of the run."""
    reject = {"override": "look at it", "kept_copy": "", "stored": "", "score": 0.0}
    doubtful = [
        made(DoubtfulLabel, **row("cat/0.png", looks_like="dog", wrong=0.9)),
        made(DoubtfulLabel, **row("dog/test.png", "test", looks_like="cat", wrong=0.7)),
    ]
    galleries = [typical("cat", "cat/2.png", "cat/0.png"), typical("dog", "dog/1.png")]
    return empty(page_settings("run", "", ["cat", "dog"])) | {
        "galleries": galleries,
        "suspects": made(DoubtfulLabels, rows=doubtful),
        "near": made(ShownNearDuplicates, rows=[{"size": 3, "members": near()}]),
        "rejected": [
            row("cat/broken.jpg", reason="not_an_image", detail="unknown", **reject),
            row(
                "cat/hostile <img src=x onerror=alert(1)>.png",
                reason="too_small",
                detail="9 x 9",
                **reject,
            ),
            row("dog/2.png", reason="label_conflict", detail="same bytes as x", **reject),
            row("cat/2.png", reason="duplicate", detail="same bytes as x", **reject),
        ],
    }


def typical(label: str, *paths: str) -> Gallery:
    """Return the gallery of a class with some typical images."""
    images: list[NamedImage] = [{"path": path, "image_hash": digest(path)} for path in paths]
    return made(Gallery, name=label, typical=images)


def near() -> list[dict[str, Any]]:
    """Return a group of near-duplicates, of which one also has a doubtful label."""
    conflict, copy = "near_duplicate_label_conflict", "near_duplicate"
    similar = (
        ("cat/0.png", conflict, "dog/0.png"),
        ("cat/1.png", copy, "cat/0.png"),
        ("dog/0.png", conflict, "cat/0.png"),
    )
    return [
        made(Row, **row(path, reason=reason, detail=f"similar to {to}", kept_copy=to))
        for path, reason, to in similar
    ]


def write(folder: Path) -> Path:
    """Write the images into class folders below `folder`, and return it."""
    for path, data in IMAGES.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


def leave(out: Path, source: Path | str, settings: Sequence[str] = ()) -> PastRun:
    """Write the folder of a past run on a source, and return the run."""
    folder = past_runs.leave(
        out,
        "20260101-000000",
        settings=(f"data.source={json.dumps(str(source))}", *settings),
    )
    (folder / "facts.json").write_text(json.dumps(facts()))
    return past_run.read(folder)
