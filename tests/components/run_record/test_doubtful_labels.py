"""Wrong labels are ranked first."""

import numpy as np
import pytest

from imgpipe.components.common.images import kept
from imgpipe.components.run_record.doubtful_labels import compared_labels
from imgpipe.models import names
from imgpipe.models.features.bank import read_rows
from tests.answer_tables import answer, table
from tests.models.banks import clouds

CLASSES = ("cat", "dog", "owl")


def flipped(labels, share, seed=1):
    """Return labels of which this share is wrong, and the set of the wrong images' numbers."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    out = labels.copy()
    out[wrong] = (out[wrong] + rng.integers(1, len(CLASSES), len(wrong))) % len(CLASSES)
    return out, set(wrong.tolist())


def ranked(uri, answers=None, **more):
    """Return the doubtful labels of a bank; without answers, heads are fitted."""
    rows = read_rows(uri, names.SPLITS, len(CLASSES), 0)
    answers = table(CLASSES) if answers is None else answers
    compared = compared_labels(rows, len(CLASSES), answers, **more)
    return compared.ranking(kept(uri), CLASSES)


def answered(uri, labels, mistakes):
    """Return answers for all images of a bank, of which some, with these margins, are wrong."""
    images = kept(uri)
    answers = []
    columns = (images[name] for name in ("image_hash", "label_index", "path"))
    for image_hash, label, path in zip(*columns, strict=True):
        margin = mistakes.get(number({"path": path}))
        guess = label if margin is None else (label + 1) % len(CLASSES)
        shares = (0.9, 0.9) if margin is None else (0.5 + margin / 2, 0.5 - margin / 2)
        answers.append(answer(0, label, guess, *shares, image_hash=image_hash.encode()))
    return table(CLASSES, *answers)


def test_the_mistakes_of_models_that_have_not_seen_the_images_are_the_ranking(bank, monkeypatch):
    features, truth = clouds()
    uri = bank(features, truth)
    mistakes = {7: 0.2, 19: 0.9, 33: 0.5}
    monkeypatch.setattr("imgpipe.components.run_record.doubtful_labels.HeadSolver", None)
    found = ranked(uri, answered(uri, truth, mistakes))
    assert [number(row) for row in found["rows"]] == [19, 33, 7] and found["disagree"] == 3
    assert found["doubtful"] == 1, "a model that is right in 99 % of cases contradicts it surely"
    assert all(row["looks_like"] != row["label"] for row in found["rows"])
    unlearned = [int(truth[19])]
    left = ranked(uri, answered(uri, truth, mistakes), unlearned=unlearned)
    assert 19 not in {number(row) for row in left["rows"]}


def number(row):
    return int(row["path"].split("/")[1][:-4])


# Flatten gives 40,000 numbers for each image, and sums over all of them would take 13 GB.
@pytest.mark.parametrize("dim", [24, pytest.param(40_000, marks=pytest.mark.slow)])
def test_images_with_flipped_labels_are_ranked_first(bank, dim, monkeypatch):
    features, truth = clouds(dim=dim)
    labels, wrong = flipped(truth, 0.03)
    uri = bank(features, labels)
    found = ranked(uri)
    assert found["images"] == 300 and found["disagree"] >= 0.9 * len(wrong)
    assert wrong <= {number(row) for row in found["rows"][:15]}
    for row in found["rows"][:9]:
        place = number(row)
        assert row["looks_like"] == CLASSES[truth[place]]
        assert row["split"] == names.SPLITS[place % 3]
    probabilities = [row["wrong"] for row in found["rows"]]
    assert probabilities == sorted(probabilities, reverse=True) and probabilities[-1] > 0
    assert 0 < found["doubtful"] <= len(wrong)
    monkeypatch.setattr("imgpipe.models.features.rows.IN_MEMORY", 0)
    assert ranked(uri) == found, "a bank larger than memory"


@pytest.mark.parametrize(("images", "classes", "groups"), [(12, 3, 12), (40, 1, 40), (300, 3, 1)])
def test_few_images_or_one_class_or_film_give_no_ranking(
    bank, monkeypatch, images, classes, groups
):
    features, labels = clouds(images)
    monkeypatch.setattr(
        "imgpipe.models.features.bank.BankRows.folds",
        lambda rows, count: np.arange(len(rows)) % min(groups, count),
    )
    assert ranked(bank(features, labels % classes)) is None


def test_true_labels_give_hardly_any_doubtful_labels(bank):
    assert ranked(bank(*clouds()))["disagree"] <= 6


def test_a_class_of_one_fold_is_not_doubtful_as_a_whole(bank, monkeypatch):
    """No head knows the class when its images are held out."""
    features, truth = clouds()
    monkeypatch.setattr(
        "imgpipe.models.features.bank.BankRows.folds",
        lambda rows, count: np.where(rows.labels == 2, 0, np.arange(len(rows)) % count),
    )
    found = ranked(bank(features, truth))
    assert "owl" not in {row["label"] for row in found["rows"]}


def test_an_image_with_a_confirmed_label_is_no_suspect(bank):
    features, labels = clouds()
    noisy, _ = flipped(labels, 0.05)
    uri = bank(features, noisy)
    before = ranked(uri)
    first, second = (row["image_hash"] for row in before["rows"][:2])
    after = ranked(uri, confirmed={first, "0" * 64})
    assert after["rows"][0]["image_hash"] == second
    assert after["disagree"] == before["disagree"] - 1 and after["images"] == before["images"]
