"""What changed since the accepted data, by the content of the images."""

from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.data_gate import changes
from imgpipe.components.data_gate.changes import by_content, sentence, since_accepted


def rows(label: str, *hashes: str, split: str = "train", verdict: str = "") -> list[ImageRow]:
    return [ImageRow(f"{label}/{key}.jpg", label, 0, split, key, verdict=verdict) for key in hashes]


def said(before: list[ImageRow], now: list[ImageRow]) -> str:
    return sentence(changes.compare(by_content(before), by_content(now)))


def test_labels_splits_new_and_lost_images_are_counted_by_content():
    before = [*rows("cat", "a", "b", "c", "d"), *rows("dog", "e", "f")]
    now = [*rows("cat", "a"), *rows("dog", "b", "c", "e", "x", "y"), *rows("cat", "d", split="val")]
    assert said(before, before) == ""
    assert said(before, now) == (
        "2 images have another label (2 cat → dog), 2 new images, 1 gone, 1 in another split"
    )


def test_labels_that_changed_without_a_review_decide(tmp_path):
    schema = tmp_path / "schema.pbtxt"
    assert since_accepted(schema, by_content(rows("cat", "a"))) == [], "nothing was accepted"
    changes.write(schema, by_content([*rows("cat", "a", "b", "c"), *rows("dog", "d")]))
    seen = [*rows("cat", "a"), *rows("dog", "b", "d"), *rows("dog", "c", verdict="relabel")]
    now = by_content(seen)
    [finding] = since_accepted(schema, now)
    assert finding["decides"] and finding["count"] == 1, "the other one was reviewed"
    assert finding["sentence"] == (
        "since the accepted data: 1 image has another label (1 cat → dog), 1 label changed by a "
        "person"
    )
    assert finding["title"] == "1 image has another label than in the accepted data (1 cat → dog)"
    [accepted] = since_accepted(schema, now, accepts=True)
    assert not accepted["decides"]
    [reviewed] = since_accepted(schema, {key: now[key] for key in "acd"})
    assert not reviewed["decides"] and "1 gone" in reviewed["sentence"]
