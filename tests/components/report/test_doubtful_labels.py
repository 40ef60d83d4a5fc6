"""Images with wrong labels are ranked first, and the review file proposes new labels for them."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

from imgpipe.components.report import doubtful_labels
from imgpipe.models import feature_names as names

CLASSES = ("cat", "dog", "owl")


def clouds(count=300, dim=24, seed=0):
    """Return features [count, dim] of three classes that overlap a little, and labels [count].

    The labels are the true ones.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1.2, (len(CLASSES), dim))
    labels = rng.integers(0, len(CLASSES), count)
    return rng.normal(0, 1, (count, dim)) + centres[labels], labels


def flipped(labels, share, seed=1):
    """Return labels of which this share is wrong, and the set of the wrong images' numbers."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    out = labels.copy()
    out[wrong] = (out[wrong] + rng.integers(1, len(CLASSES), len(wrong))) % len(CLASSES)
    return out, set(wrong.tolist())


def test_images_with_flipped_labels_are_ranked_first(bank):
    features, truth = clouds()
    labels, wrong = flipped(truth, 0.03)
    found = doubtful_labels.rank(bank(features, labels), CLASSES)
    assert found["images"] == 300 and found["disagree"] >= len(wrong)
    first = [int(row["path"].split("/")[1][:-4]) for row in found["rows"][:15]]
    assert wrong <= set(first)
    for row in found["rows"][:9]:
        place = int(row["path"].split("/")[1][:-4])
        assert row["looks_like"] == CLASSES[truth[place]]
        assert row["split"] == names.SPLITS[place % 3]
    margins = [row["margin"] for row in found["rows"]]
    assert margins == sorted(margins, reverse=True) and margins[-1] > 0
    assert doubtful_labels.rank(bank(features, labels), CLASSES) == found


def test_images_of_one_fold_give_no_ranking(bank, monkeypatch):
    """A few films may all fall into one fold, and no head can be fitted without them."""
    features, truth = clouds()
    uri = bank(features, truth)
    monkeypatch.setattr(doubtful_labels, "FOLDS", 1)
    assert doubtful_labels.rank(uri, CLASSES) is None


def test_a_bank_larger_than_memory_gives_the_same_ranking(bank, monkeypatch):
    features, truth = clouds()
    uri = bank(features, flipped(truth, 0.03)[0])
    expected = doubtful_labels.rank(uri, CLASSES)
    monkeypatch.setattr("imgpipe.models.features.rows.IN_MEMORY", 0)
    assert doubtful_labels.rank(uri, CLASSES) == expected


def test_a_class_of_one_group_is_not_doubtful_as_a_whole(bank, monkeypatch):
    """No head knows the class when its images are held out."""
    features, truth = clouds()
    folds = np.where(truth == 2, 0, np.arange(len(truth)) % doubtful_labels.FOLDS)
    margins, _ = doubtful_labels.out_of_fold(features, truth, folds, len(CLASSES))
    assert (margins[truth == 2] > 0).all()
    alone = doubtful_labels.alone(truth, folds)
    assert (alone == (truth == 2)).all()


def test_true_labels_give_hardly_any_doubtful_labels(bank):
    found = doubtful_labels.rank(bank(*clouds()), CLASSES)
    assert found["disagree"] <= 6


def test_few_images_or_one_class_give_no_ranking(bank):
    features, labels = clouds(12)
    assert doubtful_labels.rank(bank(features, labels), CLASSES) is None
    features, labels = clouds(40)
    assert doubtful_labels.rank(bank(features, labels * 0), CLASSES) is None


def test_an_image_is_scored_by_a_head_that_was_not_trained_on_it():
    """Out of fold, a head is no better than chance on noise, however many features there are."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(400, 500)), rng.integers(0, 2, 400)
    _, best = doubtful_labels.out_of_fold(features, labels, rng.integers(0, 5, 400), 2)
    assert 0.4 < np.mean(best == labels) < 0.6


def test_the_review_file_holds_proposals_and_no_decisions(bank, tmp_path):
    from imgpipe.components.image_filter import overrides

    features, truth = clouds()
    labels, _ = flipped(truth, 0.03)
    found = doubtful_labels.rank(bank(features, labels), CLASSES, limit=10)
    path = tmp_path / "suspects.toml"
    path.write_text(doubtful_labels.review_file(found))
    loaded = overrides.load(path)
    offered = [row for row in found["rows"] if row["split"] != "test"]
    assert 0 < len(offered) < len(found["rows"])
    assert [o.image_hash for o in loaded] == [row["image_hash"] for row in offered]
    assert overrides.confirmed(loaded) == () and overrides.resolve(loaded, CLASSES) == {}
    assert {o.verdict for o in loaded} == {"relabel"}
    assert loaded[0].label == offered[0]["looks_like"]
    entry = tomllib.loads(path.read_text())["override"][0]
    assert entry["note"].startswith(f"labelled {offered[0]['label']}; out of fold")


@pytest.mark.slow
def test_very_long_features_are_ranked_by_a_sketch_of_them(bank):
    """Flatten gives 40,000 numbers for each image, and sums over all of them would take 13 GB."""
    features, labels = clouds(dim=40_000)
    noisy, wrong = flipped(labels, 0.05)
    found = doubtful_labels.rank(bank(features, noisy), CLASSES)
    first = {int(row["path"].split("/")[1].split(".")[0]) for row in found["rows"][: len(wrong)]}
    assert len(first & wrong) >= 0.9 * len(wrong)


def test_a_bank_without_features_has_no_ranking(bank):
    uri = bank(np.zeros((40, 0)), np.arange(40) % 3)
    assert doubtful_labels.rank(uri, CLASSES) is None


def test_scores_of_many_classes_are_never_all_in_memory():
    """Scores of 1,500 classes for 9,000 rows would take 108 MB, and their copies 54 MB more."""
    import tracemalloc

    rng = np.random.default_rng(0)
    features = rng.normal(size=(9_000, 8)).astype(np.float32)
    labels = np.arange(9_000) % 1_500
    tracemalloc.start()
    try:
        doubtful_labels.out_of_fold(features, labels, np.arange(9_000) % 5, 1_500)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 90e6


def test_an_image_with_a_confirmed_label_is_no_suspect(bank):
    features, labels = clouds()
    noisy, _ = flipped(labels, 0.05)
    uri = bank(features, noisy)
    found = doubtful_labels.rank(uri, CLASSES)
    first, second = (row["image_hash"] for row in found["rows"][:2])
    again = doubtful_labels.rank(uri, CLASSES, confirmed={first, "0" * 64})
    assert again["rows"][0]["image_hash"] == second
    assert again["disagree"] == found["disagree"] - 1 and again["images"] == found["images"]
