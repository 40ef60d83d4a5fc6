"""Tests of what an output folder decides once: axes of covariances, and what a head reads."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from imgpipe.components.common.image_row import INGEST_SUMMARY
from imgpipe.components.common.storage import records
from imgpipe.components.feature_bank import storage as module
from imgpipe.components.feature_bank.storage import Kept
from imgpipe.models import names, preprocess
from imgpipe.models.features.extractor import BankNetwork, FeatureExtractor
from imgpipe.models.head.feature_choice import HeadInput
from imgpipe.models.network.classifier import backbone_of, build_classifier
from imgpipe.models.network.covariance_pooling import axes_in, axes_sha256, read_axes
from imgpipe.models.settings.given import Facts, Given
from imgpipe.models.settings.settings import Settings
from tests.images import encoded, soft
from tests.models import banks
from tests.network_settings import network_settings

_SETTINGS = banks.covariance_settings(32)
_IMAGES = [encoded(soft(seed, (32, 32))) for seed in range(40)]


def _run(
    folder: Path, images: Sequence[bytes], seed: int = 0, held_out: int = 4, **plan: object
) -> Kept:
    """Return the axes of a run of these training images, before they are made.

    `plan` has the fields of the plan of the bank that are others than usual.
    """
    run = len(list(folder.glob("run*")))
    uri, bank = (str(folder / f"run{run}" / name) for name in ("examples", "bank"))
    Path(bank).mkdir(parents=True)
    others = [encoded(soft(seed, (32, 32))) for seed in range(1000, 1000 + held_out)]
    rows = []
    for split, of_split in ((names.TRAIN, images), (names.VALIDATION, others)):
        for number, image in enumerate(of_split):
            content = {
                names.SPLIT: split,
                names.IMAGE_BYTES: image,
                names.IMAGE_HASH: hashlib.sha256(image).hexdigest(),
                names.PATH: f"{number}.png",
                names.LABEL_INDEX: number % 2,
            }
            rows.append((split, content))
    banks.write_examples(uri, rows)
    records.write_json(f"{uri}/{INGEST_SUMMARY}", {"rule": {"seed": seed}})
    settings = plan.pop("settings", _SETTINGS)
    usual = {"weights_key": "w", "vocabulary": ("a", "b")}
    in_folder = settings.but(run={"out": str(folder)})
    return Kept(uri, bank, len(images), Given(in_folder, Facts(**usual | plan)))


def _made(run: Kept, settings: Settings = _SETTINGS) -> Settings:
    return run.with_axes(BankNetwork(settings, "float32")).settings


def _sha256(run: Kept, settings: Settings = _SETTINGS) -> str:
    return axes_sha256(read_axes(_made(run, settings)))


def test_they_are_the_principal_axes_of_the_images_with_the_lowest_hashes(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(module, "_IMAGES", 12)
    settings = _made(_run(tmp_path, _IMAGES))
    lowest = sorted(_IMAGES, key=lambda image: hashlib.sha256(image).hexdigest())[:12]
    network = backbone_of(settings)
    outputs = network(np.rint(preprocess.batch_decode(lowest, 32).numpy()))
    found = read_axes(settings)
    assert [columns.shape for columns in found] == [(16, 12), (16, 12), (12, 12)]
    for columns, values in zip(found, outputs, strict=True):
        maps = np.asarray(values, np.float64)
        rows = (maps - maps.mean(axis=(1, 2), keepdims=True)).reshape(-1, maps.shape[-1])
        lengths = np.linalg.svd(rows, compute_uv=False)
        np.testing.assert_allclose(columns.T @ columns, np.eye(12), atol=1e-5)
        projected = np.linalg.norm(rows @ columns, axis=0)
        np.testing.assert_allclose(projected, lengths[:12], rtol=1e-3, atol=1e-3)
        largest = columns[np.abs(columns).argmax(axis=0), np.arange(12)]
        assert (largest > 0).all()
    with np.load(tmp_path / "features" / "axes-32.npz") as kept:
        digests = [hashlib.sha256(image).hexdigest().encode() for image in lowest]
        assert kept["hashes"].tolist() == digests
        assert kept["images"] == len(_IMAGES)


def test_two_runs_from_nothing_have_the_same_bits_in_any_order_of_the_images(tmp_path) -> None:
    first = _made(_run(tmp_path / "a", _IMAGES))
    second = _made(_run(tmp_path / "b", _IMAGES[::-1], held_out=9))
    assert Path(first.axes).read_bytes() == Path(second.axes).read_bytes()


def test_images_that_are_added_leave_them_until_the_training_images_have_doubled(tmp_path) -> None:
    first = _sha256(_run(tmp_path, _IMAGES[:10]))
    assert _sha256(_run(tmp_path, _IMAGES[:19])) == first
    doubled = _sha256(_run(tmp_path, _IMAGES[:20]))
    assert doubled != first
    assert _sha256(_run(tmp_path, _IMAGES[:39])) == doubled
    assert _sha256(_run(tmp_path, _IMAGES[:9])) == doubled, "images that are removed, too"


@pytest.mark.parametrize(
    "other",
    [
        network_settings(_SETTINGS, seed=1),  # of random weights
        network_settings(_SETTINGS, features="conv1"),
        network_settings(_SETTINGS, image_size=48),
    ],
    ids=["weights", "layer", "size"],
)
def test_another_network_layer_or_size_has_other_ones(tmp_path, other: Settings) -> None:
    first = _sha256(_run(tmp_path, _IMAGES[:10]))
    added = _sha256(_run(tmp_path, _IMAGES[:11]), other)
    assert added != first
    assert added == _sha256(_run(tmp_path / "new", _IMAGES[:11]), other), "of the images of now"
    if other.size != _SETTINGS.size:
        assert _sha256(_run(tmp_path, _IMAGES[:12])) == first, "each size keeps its own"


def test_images_that_may_be_held_out_in_another_division_have_no_part(tmp_path) -> None:
    _sha256(_run(tmp_path, _IMAGES[:10]))
    found = _sha256(_run(tmp_path, _IMAGES[5:15], seed=1))
    assert found == _sha256(_run(tmp_path / "new", _IMAGES[5:15], seed=1))


@pytest.mark.parametrize("damage", ["cut off", "another byte", "empty"])
def test_a_damaged_file_is_made_anew(tmp_path, damage: str) -> None:
    first = _sha256(_run(tmp_path, _IMAGES))
    file = tmp_path / "features" / "axes-32.npz"
    content = bytearray(file.read_bytes())
    content[300] ^= 1  # in the first array
    damaged = {"cut off": content[:-100], "another byte": content, "empty": b""}
    file.write_bytes(damaged[damage])
    assert _sha256(_run(tmp_path, _IMAGES)) == first


def test_a_head_without_covariances_has_none(tmp_path) -> None:
    network = BankNetwork(network_settings(_SETTINGS, features="average"), "float32")
    assert _run(tmp_path, _IMAGES).with_axes(network) == network
    assert not (tmp_path / "features").exists()


def test_the_key_of_covariances_depends_on_them_and_that_of_the_mean_does_not(tmp_path) -> None:
    settings = [_made(_run(tmp_path, _IMAGES[:count])) for count in (10, 20)]
    keys = {FeatureExtractor(each, "float32").key(0) for each in (*settings, _SETTINGS)}
    assert len(keys) == 3
    means = [network_settings(each, features="average") for each in settings]
    assert len({FeatureExtractor(each, "float32").key(0) for each in means}) == 1


def test_the_network_and_the_stored_features_have_them(tmp_path) -> None:
    settings = _made(_run(tmp_path, _IMAGES))
    classifier = build_classifier(None, ("a", "b"), settings)
    assert axes_sha256(axes_in(classifier.network)) == axes_sha256(read_axes(settings))
    extractor = FeatureExtractor(settings, "float32")
    [[stored]] = extractor.extract(_IMAGES[:1], ["0" * 64], [[0]])
    [served] = classifier.outputs(_IMAGES[:1])
    np.testing.assert_allclose(stored, served["features"].numpy()[0], rtol=2e-3, atol=2e-3)


_CHOSEN = HeadInput("covariance", 48)


def test_what_a_head_reads_is_kept_until_the_training_images_have_doubled(tmp_path) -> None:
    assert _run(tmp_path, _IMAGES[:10]).decision() is None
    made = _run(tmp_path, _IMAGES[:10]).keep(_CHOSEN, [])
    assert made["images"] == 10
    assert _run(tmp_path, _IMAGES[:19]).decision() == (_CHOSEN, made)
    assert _run(tmp_path, _IMAGES[:9]).decision() == (_CHOSEN, made)
    assert _run(tmp_path, _IMAGES[:20]).decision() is None


@pytest.mark.parametrize(
    "other",
    [
        {"vocabulary": ("a", "c")},
        {"settings": network_settings(_SETTINGS, balance="class_weights")},
        {"weights_key": "v"},
    ],
)
def test_it_is_decided_again_for_other_classes_settings_or_weights(tmp_path, other) -> None:
    _run(tmp_path, _IMAGES[:10]).keep(_CHOSEN, [])
    assert _run(tmp_path, _IMAGES[:10], **other).decision() is None


def test_it_is_decided_again_for_other_splits_and_where_the_file_is_damaged(tmp_path) -> None:
    _run(tmp_path, _IMAGES[:10]).keep(_CHOSEN, [])
    assert _run(tmp_path, _IMAGES[:10], seed=1).decision() is None
    file = tmp_path / "features" / "choice.json"
    file.write_bytes(file.read_bytes()[:-20])
    assert _run(tmp_path, _IMAGES[:10]).decision() is None
