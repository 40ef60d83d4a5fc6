"""What changed since the accepted data, by the content of the images."""

import pandas as pd

from imgpipe.components.data_gate import changes
from imgpipe.components.data_gate.changes import sentence, since_accepted


def images(label: str, *hashes: str, split: str = "train", verdict: str = "") -> pd.DataFrame:
    values = {"label": label, "split": split, "verdict": verdict}
    return pd.DataFrame([{"image_hash": key, **values} for key in hashes])


def said(before: pd.DataFrame, now: pd.DataFrame) -> str:
    return sentence(changes.compare(before, now))


def test_labels_splits_new_and_lost_images_are_counted_by_content():
    before = pd.concat([images("cat", "a", "b", "c", "d"), images("dog", "e", "f")])
    of_dog = images("dog", "b", "c", "e", "x", "y")
    now = pd.concat([images("cat", "a"), of_dog, images("cat", "d", split="val")])
    assert said(before, before) == ""
    assert said(before, now) == (
        "2 images have another label (2 cat → dog), 2 new images, 1 gone, 1 in another split"
    )


def test_labels_that_changed_without_a_review_decide():
    nothing = images("cat", "a")[:0]
    assert since_accepted(nothing, images("cat", "a")) == [], "nothing was accepted"
    before = pd.concat([images("cat", "a", "b", "c"), images("dog", "d")])
    reviewed = images("dog", "c", verdict="relabel")
    now = pd.concat([images("cat", "a"), images("dog", "b", "d"), reviewed])
    [finding] = since_accepted(before, now)
    assert finding["decides"] and finding["count"] == 1, "the other one was reviewed"
    assert finding["sentence"] == (
        "since the accepted data: 1 image has another label (1 cat → dog), 1 label changed by a "
        "person"
    )
    assert finding["title"] == "1 image has another label than in the accepted data (1 cat → dog)"
    [accepted] = since_accepted(before, now, accepts=True)
    assert not accepted["decides"]
    [fewer] = since_accepted(before, now[now["image_hash"] != "b"])
    assert not fewer["decides"] and "1 gone" in fewer["sentence"]
