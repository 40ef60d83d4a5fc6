"""`run_fn`: training from the feature bank and the image examples to an exported model.

TFX's GenericExecutor finds the function by its path, `imgpipe.models.trainer.run_fn`. A head is
trained on stored features alone. Images are then read only for the warm-up requests and the parity
record.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from imgpipe.models import names
from imgpipe.models.arrays import Array
from imgpipe.models.export.saved_model import export, write_digest
from imgpipe.models.features import feature_distribution, stored_parity
from imgpipe.models.features.bank import read_facts, settings_of_bank
from imgpipe.models.features.feature_distribution import FeatureDistribution
from imgpipe.models.features.rows import Labelled
from imgpipe.models.files.regular_files import local_path
from imgpipe.models.head import learned
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.head.calibration import Calibration, calibrate, softmax
from imgpipe.models.machine import progress
from imgpipe.models.network import network_file
from imgpipe.models.network.classifier import ClassifierNetwork, build_classifier
from imgpipe.models.search import network_search
from imgpipe.models.settings.given import Given
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training import stages
from imgpipe.models.training.history import History
from imgpipe.models.training.stages import Trained

TOP_K: Final = 5  # labels in an answer of the exported model, the most probable ones
WARMUP_IMAGES: Final = 4  # in the requests with which a server warms up
PARITY_IMAGES: Final = 16  # of train, whose probabilities are recorded; see `write_parity`
#: Number of images of a split from which those for warm-up and parity are chosen.
_IMAGES_LOOKED_AT: Final = 1000
#: Number of training images whose features are computed for their distribution. Half as many
#: held-out images are used.
_DESCRIBED: Final = 512


def run_fn(fn_args: Any) -> None:
    """Trains and exports the model. TFX's GenericExecutor calls this function.

    It writes the SavedModel to `fn_args.serving_model_dir`, and history.json, parity.tfrecord and
    tensorboard/ to `fn_args.model_run_dir`. Beside the model lies learned.npz: the images that it
    has learned from, and their families. Beside one that has learned from validation lies
    out_of_fold.npz: hash, label and probabilities of each image by a network without it.

    Args:
        fn_args: Arguments from TFX. `custom_config` has what `settings.given` writes for
            ImageTrainer, and "bank_uri", the artifact of FeatureBank. `train_files` and
            `eval_files` are patterns of image examples.
    """
    config = dict(fn_args.custom_config)
    bank_uri = config.pop("bank_uri")
    settings, facts = Given.read(config)
    vocabulary = settings.check_classes(facts.vocabulary)
    run_dir = local_path(fn_args.model_run_dir, "ImageTrainer")
    run_dir.mkdir(parents=True, exist_ok=True)
    files = (fn_args.train_files, fn_args.eval_files)
    log_dir = run_dir / names.TENSORBOARD_FOLDER
    settings = settings_of_bank(bank_uri, settings)
    trained = network_search.train(
        stages.Inputs(settings, len(vocabulary), bank_uri, *files, log_dir, settings.folds)
    )
    # The search may have trained a network on other features.
    if trained.features:
        settings = settings.but(model={"features": trained.features})
    calibration = _calibrated(trained)
    progress.part("the export")
    classifier = build_classifier(trained.layers, vocabulary, settings, calibration["temperature"])
    distribution = trained.distribution or image_distribution(classifier, *files)
    history: History = {
        **trained.history,
        "calibration": calibration,
        "image_size": settings.size,
        "features": settings.largest_kind,
        "tells_unlike": distribution is not None,
    }
    # JSON has no NaN, and readers other than Python's refuse a file that contains one.
    (run_dir / names.HISTORY_FILE).write_text(
        json.dumps(history, indent=1, allow_nan=False), "utf-8"
    )
    parity_file = run_dir / names.PARITY_FILE
    write_parity(classifier, trained, settings, fn_args.train_files, bank_uri, parity_file)
    target = fn_args.serving_model_dir
    warmup_images = list(some_images(fn_args.eval_files, WARMUP_IMAGES).values())
    export(classifier, target, top_k=TOP_K, warmup_images=warmup_images, distribution=distribution)
    features = history["features"]
    write_digest(classifier, target, top_k=TOP_K, source=facts.code, features=features)
    network_file.save(classifier, settings, target)
    learned.of_weights(classifier.network.get_weights()).write(target)
    if names.VALIDATION in history["learned"]:
        OutOfFold.of(trained.answers, calibration).write(target)
    if distribution is not None:
        distribution.save(target)


def _calibrated(trained: Trained) -> Calibration:
    """Calibrate a network on its answers for images that it has not learned from."""
    answers = trained.answers
    answerable = answers.answerable
    return calibrate(
        answers.logits[answerable],
        answers.labels[answerable],
        "folds" if trained.by_folds else "validation",
        None if answers.groups is None else answers.groups[answerable],
    )


def image_distribution(
    classifier: ClassifierNetwork, train_files: Sequence[str], eval_files: Sequence[str]
) -> FeatureDistribution | None:
    """Compute the distribution of a network's features when the bank does not hold them.

    A few hundred images of both splits, of which file patterns are given, pass through the network
    once more. The class that the network predicts for an image is used as its label. There is no
    distribution when there are too few images or too many features.
    """
    train, held_out = (
        _features(classifier, Labelled.read(files).first(count))
        for files, count in ((train_files, _DESCRIBED), (eval_files, _DESCRIBED // 2))
    )
    predicted = train[names.PROBABILITIES].argmax(axis=1)
    maps = classifier.trunk.outputs
    width = maps[0].shape[-1] if len(maps) > 1 else None  # the mean of the last map
    old, new = (part[names.FEATURES][:, :width] for part in (train, held_out))
    return feature_distribution.fit(old, predicted, new)


def _features(classifier: ClassifierNetwork, images: Labelled) -> dict[str, Any]:
    """Return the features [N, D] and probabilities [N, C] of images by name."""
    if not len(images):
        return dict.fromkeys((names.FEATURES, names.PROBABILITIES), np.empty((0, 1), np.float32))
    places: list[int] = []
    batches: list[dict[str, Any]] = []
    for here, encoded in images.values(names.IMAGE_BYTES):
        places += here.tolist()
        batches += classifier.outputs(encoded.tolist())
    order = np.argsort(places)
    return {
        name: np.concatenate([batch[name].numpy() for batch in batches])[order]
        for name in (names.FEATURES, names.PROBABILITIES)
    }


def some_images(patterns: Sequence[str], count: int) -> dict[bytes, bytes]:
    """Return at most `count` encoded images of some record files by hash, always the same ones.

    Of the first images, those with the smallest content hashes are chosen, so that the order in
    which a source lists its classes does not matter.
    """
    chosen = Labelled.read(patterns, at_most=_IMAGES_LOOKED_AT).first(count)
    images: dict[int, bytes] = {}
    for places, encoded in chosen.values(names.IMAGE_BYTES):
        images.update(zip(places.tolist(), encoded.tolist(), strict=True))
    return {digest: images[place] for place, digest in enumerate(chosen.hashes.tolist())}


def stored_features(bank_uri: str, hashes: Sequence[bytes]) -> list[Array]:
    """Return the stored features of images of train, each block float16 [N, d]; [] without one."""
    rows = Labelled.read([f"{bank_uri.rstrip('/')}/Split-{names.TRAIN}/data_tfrecord-*"], 0)
    rows = rows.select(np.isin(rows.hashes, list(hashes)))
    features: dict[bytes, Array] = {}
    for places, values in rows.values(names.FEATURES):
        vectors = (np.frombuffer(value, "<f2") for value in values)
        features.update(zip(rows.hashes[places].tolist(), vectors, strict=True))
    if not features or set(features) != set(hashes):
        return []
    ends = np.cumsum(read_facts(bank_uri)["sizes"])[:-1]
    return np.split(np.stack([features[digest] for digest in hashes]), ends, axis=1)


def write_parity(
    classifier: ClassifierNetwork,
    trained: Trained,
    settings: Settings,
    train_files: Sequence[str],
    bank_uri: str,
    path: Path,
) -> None:
    """Record the probabilities of some training images, which ServingValidator compares.

    The TFRecord file has one tf.Example for each image, with `image_bytes` and `probabilities`,
    which the trained model in memory gives. Every server of this model must give the same
    probabilities for the same bytes. A head is trained and judged on stored features, so that it
    answers alone here, on the features that the network computes; and its examples have the stored
    ones. If those that the network computes differ by more than rounding usually gives, they also
    have those that it computes in the precision of the bank.
    """
    import tensorflow as tf

    images = some_images(train_files, PARITY_IMAGES)
    encoded = list(images.values())
    batches = list(classifier.outputs(encoded))
    answers = [row for batch in batches for row in batch[names.PROBABILITIES].numpy()]
    vectors: dict[str, list[Array]] = {}
    facts = None
    if trained.history["trained"] == stages.HEAD and batches:
        computed = np.concatenate([batch[names.FEATURES].numpy() for batch in batches])
        logits = trained.layers(computed, training=False).numpy()
        answers = [*softmax(logits / classifier.temperature)]
        facts = read_facts(bank_uri)
        stored = stored_features(bank_uri, list(images))
        vectors[names.STORED_FEATURES] = stored
        if stored and stored_parity.difference(computed, stored) > stored_parity.LARGEST:
            rounded = stored_parity.rounded(classifier, settings, encoded, facts["precision"])
            vectors[names.ROUNDED_FEATURES] = [rounded.astype("<f2")]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, (image, row) in enumerate(zip(encoded, answers, strict=True)):
            example = tf.train.Example()
            feature = example.features.feature
            feature[names.IMAGE_BYTES].bytes_list.value.append(image)
            feature[names.PROBABILITIES].float_list.value.extend(row.tolist())
            for name, blocks in vectors.items():
                feature[name].bytes_list.value.extend(block[number].tobytes() for block in blocks)
            if facts is not None:
                feature[names.STORED_BEFORE].int64_list.value.append(int(facts["reused"] > 0))
            # The order of a map in a protobuf is arbitrary unless it is asked to be the same.
            writer.write(example.SerializeToString(deterministic=True))
