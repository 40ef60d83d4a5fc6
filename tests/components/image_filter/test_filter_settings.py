"""Severities, repairs, thresholds that depend on the whole set, and overrides, on Beam."""

import hashlib
import io

from PIL import Image

from imgpipe.components.common import images
from imgpipe.components.common.image_file.pixels import MEASUREMENTS
from imgpipe.components.common.storage.records import content_hash, integer, raw, text
from imgpipe.components.image_filter import quarantine
from imgpipe.components.image_filter.findings import reviewed
from imgpipe.components.image_filter.judge.examine import examine
from imgpipe.models import names
from imgpipe.models.settings.data import JudgeSettings
from imgpipe.models.settings.override import Override
from tests.images import encoded


def digest(data):
    return hashlib.sha256(data).hexdigest()


def effects(done):
    """Return what the overrides have done, by path."""
    uri = f"{done.root}/q"
    found = reviewed(images.read(uri), quarantine.read_findings(uri))
    return {effect["path"]: (effect["reason"], effect["detail"]) for effect in found}


def kept(done, path):
    (found,) = [e for e in done.kept() if text(e, names.PATH) == path]
    return found


def warned(done):
    return {
        found["reason"]: [example["path"] for example in found["examples"]]
        for found in done.summary["findings"]
        if found["fate"] == "warned"
    }


def black(size=(60, 40)):
    return encoded(Image.new("RGB", size))


def test_measurements_are_written_to_the_table(photos, run):
    done = run(photos({"a": 3, "b": 3, "a/black.png": black()}))
    example = kept(done, "a/black.png")
    table = images.read(f"{done.root}/q", figures=True).set_index("path")
    assert table[names.BRIGHTNESS]["a/black.png"] == 0.0
    assert table[[*MEASUREMENTS]].notna().all(axis=None)
    assert warned(done)["dark"] == ["a/black.png"]
    assert "not_served" not in {finding["reason"] for finding in done.summary["findings"]}
    every = quarantine.read_findings(f"{done.root}/q")
    (found,) = [finding for finding in every if finding["reason"] == "dark"]
    assert (found["label"], found["split"]) == ("a", text(example, names.SPLIT))
    assert found["detail"] == "even its brightest parts are dark"


def test_overrides_accept_reject_and_relabel_and_are_counted(photos, encode, run):
    icon, cut, twice = black((9, 9)), encode(seed=700)[:300], encode(seed=701)
    good, wrong = encode(seed=702), encode(seed=703)
    folder = photos(
        {
            "a": 3,
            "b": 3,
            "a/icon.png": icon,
            "a/cut.jpg": cut,
            "a/owl.jpg": twice,
            "b/owl.jpg": twice,
            "a/bad.jpg": good,
            "a/b.jpg": wrong,
            "loose.jpg": encode(seed=704),
        }
    )
    decided = [
        Override(digest(icon), "accept"),
        Override(digest(cut), "accept"),
        Override(digest(twice), "relabel", "b"),
        Override(digest(good), "reject"),
        Override(digest(wrong), "relabel", "b"),
        Override(digest(encode(seed=704)), "relabel", "a"),
        Override("f" * 64, "accept"),
    ]

    done = run(folder, decided=decided)
    assert {path: r["reason"] for path, r in done.rejects.items()} == {
        "a/cut.jpg": "truncated",
        "a/bad.jpg": "reviewed",
        "b/owl.jpg": "duplicate",  # the conflict is settled, and one copy is kept
    }
    assert {p: text(kept(done, p), names.LABEL) for p in ("a/b.jpg", "loose.jpg")} == {
        "a/b.jpg": "b",
        "loose.jpg": "a",
    }
    assert integer(kept(done, "a/owl.jpg"), names.LABEL_INDEX) == 1
    said = effects(done)
    assert said["a/icon.png"] == ("accept", "") and said["a/b.jpg"] == ("relabel", "a → b")
    assert said["a/cut.jpg"][1].startswith("stays rejected: truncated")
    assert said["loose.jpg"] == ("relabel", "no label → a")
    assert done.summary["overrides"]["unknown"] == 1
    assert done.summary["overrides"]["applied"] == {"accept": 2, "reject": 1, "relabel": 3}
    assert done.summary["in"] == done.summary["kept"] + done.summary["rejected"] == 13


def test_a_decision_about_a_label_holds_in_every_split_and_those_of_test_are_counted(
    photos, run, encode
):
    splits = {f"{split}/{label}": 3 for split in names.SPLITS for label in "ab"}
    files = {split: encode(seed=720 + n) for n, split in enumerate(names.SPLITS)}
    folder = photos({**splits, **{f"{split}/a/b.jpg": data for split, data in files.items()}})
    decided = [Override(digest(data), "relabel", "b") for data in files.values()]
    done = run(folder, decided=decided)
    labels = {split: text(kept(done, f"{split}/a/b.jpg"), names.LABEL) for split in files}
    assert set(labels.values()) == {"b"}
    told = done.summary["overrides"]
    assert (told["applied"], told["relabelled_test"]) == ({"relabel": 3}, 1)
    said = [finding["title"] for finding in done.summary["findings"]]
    assert "a person has decided about 3 images: 3 relabelled (1 label of test)" in said


def test_transcoded_images_are_also_checked_by_their_pixels(photos, run, records):
    """The serving op refuses a WebP with an alpha channel, and Pillow reads it."""
    image = Image.new("RGBA", (60, 40), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 60, 10))
    data = encoded(image, "WEBP", lossless=True, exact=True)
    done = run(photos({"a": 3, "b": 3, "a/cut-out.webp": data}))
    assert done.summary["repaired"] == 1
    assert warned(done)["alpha"] == warned(done)["low_information"] == ["a/cut-out.webp"]
    example = kept(done, "a/cut-out.webp")
    png = raw(example, names.IMAGE_BYTES)
    assert Image.open(io.BytesIO(png)).mode == "RGB"
    assert text(example, names.REPAIRS) == "transcoded"
    assert text(example, names.IMAGE_HASH) == digest(data), "of the file as found"
    assert content_hash(example) == digest(png), "features are of what is looked at"
    assert content_hash(kept(done, "a/000.jpg")) == text(kept(done, "a/000.jpg"), names.IMAGE_HASH)
    strict = JudgeSettings(severity={"low_information": "reject"})
    (inspected,) = records({"a/cut-out.webp": data}).values()
    assert examine(inspected, strict)[-1].reason == "low_information"
