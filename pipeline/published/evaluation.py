"""Evaluates a model on labelled images, with the metrics of the report.

The answers are those of the served signature, and the most probable class is judged, as in a run.
An image that cannot be read, that the signature cannot decode, or whose label is none of the
model's classes, cannot be judged and is counted beside the metrics.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from imgpipe.components.common import images as tables
from imgpipe.components.common.storage import manifest
from imgpipe.components.example_gen.sources import Images, read_source
from imgpipe.components.example_gen.sources.rules import check_class_names
from imgpipe.models import names
from imgpipe.models.errors import ConfigError
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import load_tensorflow
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.output.lookup import Model
from imgpipe.pipeline.published.evaluation_summary import NotEvaluated, summarise

if TYPE_CHECKING:
    from imgpipe.components.common.answer_table import AnswerTable
    from imgpipe.components.common.image_row import ImageRow
    from imgpipe.components.run_record.result import Result
    from imgpipe.models.arrays import Floats
    from imgpipe.pipeline.results import Evaluation

_BATCH = 32  # images in one call of the signature
_NAMED = 20  # labels that an error names


def evaluate(model: Model, config: Settings, threshold: float) -> Evaluation:
    """Evaluate a model.

    Args:
        model: The model.
        config: The configuration, which names the source and says how it is read.
        threshold: Accuracy that the model has to reach; 0 if it has to reach none.

    Raises:
        ConfigError: The threshold or the source is wrong, no label is a class of the model, one
            only looks like a class, or no image could be judged.
    """
    from imgpipe.pipeline.results import Evaluation

    if not isinstance(threshold, numbers.Real) or not 0 <= threshold <= 1:
        raise ConfigError(f"threshold: expected a share from 0 to 1. Received: {threshold!r}.")
    # A recall needs images of one class only.
    images = read_source(config.data.source, config.data, str(config.places.judge), 1)
    _require_classes(model, images)
    limit = config.judge.pixel_limit
    load_tensorflow()
    excluded = NotEvaluated()
    with progress.step("classifying images"):
        answered = [*_classified(model, images, limit, excluded)]
    with progress.step("comparing with training"):
        hashes = {image.image_hash: image.perceptual_hash for image, _ in answered}
        splits = _seen_images(model, hashes)
    answers = _table(model, answered, splits or {})
    result = summarise(model, images.source, answers, excluded, splits, threshold)
    draw = functools.partial(_page, model, images, limit, answers, result)
    return Evaluation(result, draw)


def _require_classes(model: Model, images: Images) -> None:
    """Refuse images of which none has a class of the model, or whose classes only look like one."""
    labels = {item.label for item in images.items if item.label}
    check_class_names(images.source, labels.union(model.vocabulary))
    if not labels & set(model.vocabulary):
        received = ", ".join(sorted(labels)[:_NAMED]) or "images without labels"
        raise ConfigError(
            f"{images.source}: no label is a class of the model. Expected: some of "
            f"{', '.join(model.vocabulary[:_NAMED])}. Received: {received}. Name the folders, or "
            "the labels of the table, as the classes of the model."
        )


def _page(model: Model, listed: Images, limit: int, answers: AnswerTable, result: Result) -> str:
    """Draw the page as one HTML file, for which images are read again and explained."""
    from imgpipe.components.common.image_file.content import for_the_model
    from imgpipe.components.report.other_pages import OF_EVALUATION
    from imgpipe.components.report.page import Page
    from imgpipe.components.report.pictures import thumbnails

    page = Page.of(result, OF_EVALUATION)
    keys = {picture.key for picture in page.pictures()}
    hashes = dict(zip(answers.paths, answers.hashes.astype(str), strict=True))
    images: dict[str, bytes] = {}
    for item in listed.items:
        image_hash = str(hashes.get(item.path, ""))
        if image_hash in keys:
            # The page shows an answer without its image if the file was removed since.
            with contextlib.suppress(OSError):
                images[image_hash] = for_the_model(listed.reader.read(item), limit)
    mistakes = result["answers"]["mistakes"] if result["answers"] is not None else []
    explained = [row["image_hash"] for row in mistakes[: thumbnails.EXPLAINED]]
    return page.html(images | thumbnails.encoded_cams(str(model.folder), images, explained))


def _classified(
    model: Model, images: Images, limit: int, excluded: NotEvaluated
) -> Iterator[tuple[ImageRow, Floats]]:
    """Yield each image that can be judged, without its pixels, and its probabilities, [C]."""
    from imgpipe.components.common.image_row import served_bytes
    from imgpipe.components.example_gen.inspection import inspect
    from imgpipe.serving.server.runtime import Runtime

    with contextlib.closing(Runtime(model.folder)) as runtime:
        progress.total(len(images.items), "images")
        inspected = inspect(images.reader, images.items, limit, vocabulary=model.vocabulary)
        usable = _usable(inspected, excluded)
        while batch := list(itertools.islice(usable, _BATCH)):
            encoded = [served_bytes(image, image.image_bytes) for image in batch]
            answers = runtime.answer(image_bytes=encoded)
            for image, probabilities in zip(batch, answers[names.PROBABILITIES], strict=True):
                yield replace(image, image_bytes=b""), probabilities


def _usable(inspected: Iterable[ImageRow], excluded: NotEvaluated) -> Iterator[ImageRow]:
    """Yield the images that can be judged, and note the others."""
    for image in inspected:
        progress.advance(1, "images")
        refused = "" if image.converted else image.decode_error
        error = image.problem_detail or image.read_error or refused
        if error:
            why = error.splitlines()[0]
            excluded.undecodable.append(
                {"path": image.path, "detail": why, "image_hash": image.image_hash}
            )
        elif image.label_index < 0:
            excluded.unknown_labels[image.label] += 1
        else:
            yield image


def _seen_images(model: Model, images: Mapping[str, bytes]) -> Mapping[str, str] | None:
    """Return the split in the run that made the model, of each image that it had.

    `images` has the perceptual hashes by content hash. The run had an image also as a
    near-duplicate. Where the table of the run's images is gone, the list beside the model tells
    the same files alone; None without one.
    """
    import pandas as pd

    from imgpipe.components.image_filter.copies.search import find_near_duplicates
    from imgpipe.components.image_filter.engine import pictures_of
    from imgpipe.components.image_filter.judge.checks.quality import RADIUS

    run = model.run
    quarantine = run.artifact("ImageFilter", "quarantine") if run is not None else ""
    if not quarantine:
        listed_in = model.folder / manifest.PROVENANCE / manifest.KNOWN_IMAGES
        known = manifest.read_known_images(listed_in)
        if known is None:
            return None
        listed = {key: known.get(manifest.short_hash(key), "") for key in images}
        return {key: split for key, split in listed.items() if split}
    files = tables.files(quarantine)
    of_run = pd.concat([tables.read_file(file) for file in files], ignore_index=True)
    is_kept = of_run["reason"] == ""
    hashes = itertools.chain.from_iterable(map(tables.perceptual_hashes, files))
    every_image = pd.concat([pd.Series([*images], dtype=object), of_run.loc[is_kept, "image_hash"]])
    content, contents = pd.factorize(every_image, sort=True)
    every_hash = itertools.chain(images.values(), itertools.compress(hashes, is_kept))
    groups = find_near_duplicates(pictures_of(content, len(contents), every_hash), RADIUS).groups
    group_of = dict(zip(contents, groups.tolist(), strict=True))
    split_of = dict(
        zip(of_run.loc[is_kept, "image_hash"], of_run.loc[is_kept, "split"], strict=True)
    )
    splits_of_groups: dict[int, set[str]] = {}
    for image_hash, split in split_of.items():
        splits_of_groups.setdefault(group_of[image_hash], set()).add(split)
    seen = {key: split_of[key] for key in images if key in split_of}
    for key in images.keys() - seen.keys():
        if group_of[key] and group_of[key] in splits_of_groups:
            seen[key] = min(splits_of_groups[group_of[key]], key=names.SPLITS.index)
    return seen


def _table(
    model: Model,
    rows: Sequence[tuple[ImageRow, Floats]],
    splits: Mapping[str, str],
) -> AnswerTable:
    """Return the answers; the families of the images are found as in a run."""
    from imgpipe.components.common.answer_table import AnswerTable, most_probable
    from imgpipe.components.image_filter.engine import belongings
    from imgpipe.components.image_filter.judge.checks.quality import RADIUS
    from imgpipe.models.head.learned import Learned

    images = tables.frame((image for image, _ in rows), large=True)
    belongings(images, images["perceptual_hash"], RADIUS)
    seen_in = images["image_hash"].map(splits).fillna(names.TEST)
    images["seen_family"] = seen_in != names.TEST
    probabilities = np.reshape([row for _, row in rows], (len(images), len(model.vocabulary)))
    answers = most_probable(probabilities, images["label_index"].to_numpy())
    table = AnswerTable.answered(model.vocabulary, images, answers)
    learned = Learned.read(str(model.folder))
    if learned is None:
        return table
    # What lies beside the weights holds also where the run that made them is gone.
    has_learned = learned.knows(table.hashes, table.families)
    return replace(table, seen_family=table.seen_family | has_learned)
