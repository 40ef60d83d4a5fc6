"""Severities, repairs, thresholds that depend on the whole set, and overrides, on Beam."""

import hashlib
import io

from PIL import Image

from imgpipe.components.common import row_files
from imgpipe.components.common.image_file.pixels import MEASUREMENTS
from imgpipe.components.common.storage.records import content_hash, integer, raw, text
from imgpipe.components.image_filter import data_summary, image_table
from imgpipe.components.image_filter.judge.single_image import decide
from imgpipe.models import names
from imgpipe.models.files.image_limits import PIXEL_LIMIT
from imgpipe.models.settings.data import JudgeSettings
from imgpipe.models.settings.override import Override
from imgpipe.serving.server.settings import ServerSettings
from tests.images import encoded


def digest(data):
    return hashlib.sha256(data).hexdigest()


def table(done):
    return image_table.read(f"{done.root}/q", with_findings=True)


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
    (file,) = row_files.files(f"{done.root}/q")
    rows = {row.path: row for row in row_files.read(file, with_figures=True)}
    assert rows["a/black.png"].figures[names.BRIGHTNESS] == 0.0
    assert all(row.figures.keys() == MEASUREMENTS.keys() for row in rows.values())
    assert warned(done)["dark"] == ["a/black.png"]
    assert "not_served" not in {finding["reason"] for finding in done.summary["findings"]}
    (found,) = [finding for finding in table(done).warned if finding["reason"] == "dark"]
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
        Override(digest(wrong)[:12], "relabel", "b"),
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
    said = {effect["path"]: (effect["reason"], effect["detail"]) for effect in table(done).reviewed}
    assert said["a/icon.png"] == ("accept", "") and said["a/b.jpg"] == ("relabel", "a → b")
    assert said["a/cut.jpg"][1].startswith("stays rejected: truncated")
    assert said["loose.jpg"] == ("relabel", "no label → a")
    assert done.summary["overrides"]["unknown"] == ["f" * 64]
    assert done.summary["overrides"]["applied"] == {"accept": 2, "reject": 1, "relabel": 3}
    assert sum(done.summary["overrides"]["relabelled"].values()) == 3
    assert done.summary["in"] == done.summary["kept"] + done.summary["rejected"] == 13


def test_labels_of_test_are_never_overridden(photos, run, encode):
    splits = {f"{split}/{label}": 3 for split in names.SPLITS for label in "ab"}
    files = {split: encode(seed=720 + n) for n, split in enumerate(names.SPLITS)}
    folder = photos({**splits, **{f"{split}/a/b.jpg": data for split, data in files.items()}})
    decided = [Override(digest(data), "relabel", "b") for data in files.values()]
    done = run(folder, decided=decided)
    labels = {split: text(kept(done, f"{split}/a/b.jpg"), names.LABEL) for split in files}
    assert labels == {"train": "b", "validation": "b", "test": "a"}
    told = done.summary["overrides"]
    assert told["relabelled"] == {"train": 1, "validation": 1, "test": 0}
    assert told["applied"] == {"relabel": 2, "kept_test_label": 1}
    (test,) = [effect for effect in table(done).reviewed if effect["path"].startswith("test/")]
    assert test["detail"] == "keeps a: overrides never change a label of test"


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
    assert decide(inspected, strict).rejection.reason == "low_information"


def test_images_that_a_server_does_not_take_are_counted(photos, run, monkeypatch):
    assert JudgeSettings().pixel_limit == PIXEL_LIMIT == ServerSettings().max_image_pixels
    monkeypatch.setattr(data_summary, "PIXEL_LIMIT", 3_000)
    large = encoded(Image.new("RGB", (61, 50), (9, 99, 9)))
    found = run(photos({"a": 3, "b": 3, "a/large.png": large})).summary
    assert found["too_large"] == 1
    [said] = [one for one in found["findings"] if one["reason"] == "not_served"]
    assert said["sentence"].startswith("1 of the 7 kept images has more pixels or bytes than")
    assert said["sentence"].endswith("(3,000 pixels, 64 MiB)")
    assert said["remedies"] == ["resize such images, also before they are sent"]
