"""The filter on Beam loses no image, and other engines and shards give the same result."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from imgpipe.components.common import images as tables
from imgpipe.components.common.storage.records import shard_files, text
from imgpipe.components.image_filter import image_filter
from imgpipe.components.image_filter.image_filter import Uris
from imgpipe.components.image_filter.summary import check_conservation
from imgpipe.models import names
from imgpipe.models.settings.given import Facts, Given
from tests import images
from tests.components.filtered import Run, encode, photographs


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """Return a folder with one image of each fault among good images."""
    same, conflicting = encode(seed=901), encode(seed=902)
    return photographs(
        tmp_path_factory.mktemp("faulty") / "photos",
        {
            "cat": 12,
            "dog": 12,
            "cat/zero.jpg": b"",
            "cat/cut.jpg": encode(seed=900)[:400],
            "cat/words.jpg": b"not an image",
            "cat/icon.png": encode("PNG", size=(8, 8)),
            "cat/png.jpg": encode("PNG", seed=903),
            "cat/scan.tif": encode("TIFF", seed=904),
            "cat/one.jpg": same,
            "cat/two.jpg": same,
            "cat/owl.jpg": conflicting,
            "dog/owl.jpg": conflicting,
            "loose.jpg": encode(seed=905),
            ".hidden.jpg": encode(seed=906),
        },
    )


@pytest.fixture(scope="module")
def done(faulty, tmp_path_factory):
    return Run(tmp_path_factory.mktemp("done") / "run", faulty)


def test_every_fault_is_named_and_every_image_is_counted(faulty, done):
    assert {path: reject["reason"] for path, reject in done.rejects.items()} == {
        "cat/zero.jpg": "zero_byte",
        "cat/cut.jpg": "truncated",
        "cat/words.jpg": "not_an_image",
        "cat/icon.png": "too_small",
        "cat/two.jpg": "duplicate",
        "cat/owl.jpg": "label_conflict",
        "dog/owl.jpg": "label_conflict",
        "loose.jpg": "no_label",
    }
    summary = done.summary
    assert (summary["in"], summary["kept"], summary["rejected"]) == (35, 27, 8)
    assert summary["repaired"] == 1 and summary["by_reason"]["label_conflict"] == 2
    assert sum(row["cat"] for row in summary["by_split"].values()) == 15
    (hidden,) = [one for one in summary["findings"] if one["reason"] == "hidden_file"]
    assert hidden["fate"] == "left_out" and hidden["examples"]
    assert done.rejects["cat/two.jpg"]["kept_copy"] == "cat/one.jpg"
    for path, reject in done.rejects.items():
        stored = done.root / "q" / reject["stored"]
        assert reject["override"] and stored.parent.name == reject["reason"]
        assert stored.read_bytes() == (faulty / path).read_bytes()


def test_other_engines_and_shard_sizes_give_the_same_examples(faulty, done, run):
    other = run(
        faulty,
        name="other",
        shard_size=4,
        flags=("--direct_running_mode=multi_threading", "--direct_num_workers=2"),
    )
    assert sorted(done.paths()) == sorted(other.paths())
    assert done.summary == other.summary and done.rejects == other.rejects
    again = run(faulty, name="again")
    for split in names.SPLITS:
        for first, second in zip(
            shard_files(f"{done.root}/kept", split),
            shard_files(f"{again.root}/kept", split),
            strict=True,
        ):
            assert Path(first).read_bytes() == Path(second).read_bytes()


def test_a_lost_image_raises_a_runtime_error(tmp_path):
    summary = {"in": 10, "kept": 8, "rejected": 1}
    with pytest.raises(RuntimeError, match=r"10 read, 8 kept \+ 1 rejected; this is a defect"):
        check_conservation(summary, 10)
    with pytest.raises(RuntimeError, match="11 ingested, 9 read"):
        check_conservation({"in": 9, "kept": 8, "rejected": 1}, 11)


def test_the_quarantine_is_private_to_its_owner(done):
    place = done.root / "q"
    modes = {path.stat().st_mode & 0o777 for path in place.rglob("*") if path.is_file()}
    assert place.stat().st_mode & 0o777 == 0o700
    assert modes == {0o600}


def test_turned_copies_and_families_are_drawn_into_one_split(photos, run):
    files = {}
    for number in range(30):
        for label in ("cat", "dog"):
            seed = 2 * number + (label == "dog")
            original = images.scene(seed, (120, 90))
            for quarter in range(2):
                turned = original.rotate(90 * quarter, expand=True)
                files[f"{label}/{hash((seed, quarter)) % 10**9}.jpg"] = images.encoded(turned)
            for frame in range(2):
                name = f"{label}/film{number:02d}_{frame}.png"
                files[name] = images.frame(number, 1000 + 60 * frame + seed)
    done = run(photos(files))
    split_of = {text(one, names.PATH): text(one, names.SPLIT) for one in done.kept()}
    group_of = {text(one, names.PATH): text(one, names.GROUP) for one in done.kept()}
    assert len(split_of) == len(files)
    for number in range(30):
        film = [f"{label}/film{number:02d}_{n}.png" for label in ("cat", "dog") for n in range(2)]
        assert len({split_of[path] for path in film}) == 1
        assert {group_of[path] for path in film} == {f"film{number:02d}*"}
    near = tables.kept(f"{done.root}/q").query("near_group > 0").groupby("near_group")
    assert len(near) == 60
    assert (near[["split", "family"]].nunique() == 1).all(axis=None)
    families = done.summary["families"]
    assert (families["found"], families["families"], families["images"]) == (True, 30, 120)
    assert families["examples"][0] == {"name": "film00*", "images": 4}
    assert families["divided"] == {"validation": 0, "test": 0}


def test_families_that_the_source_divides_are_kept_and_marked(photos, run):
    numbers = {"train": range(9), "test": range(4, 12), "validation": range(20, 25)}
    files = {}
    for split, of_split in numbers.items():
        for n in of_split:
            for at, label in enumerate("ab"):
                seed = 1000 * len(split) + 100 * at + n
                files[f"{split}/{label}/f{n}_{seed}.png"] = images.frame(n + 50 * at, seed)
    # Train has of one more film only the copy of a test image, which it does not keep.
    [copied] = [name for name in files if name.startswith("test/a/f11_")]
    image = Image.open(io.BytesIO(files[copied]))
    files["train/a/f11_1.png"] = images.encoded(image, compress_level=0)
    done = run(photos(files))
    assert [*done.rejects] == ["train/a/f11_1.png"]
    assert done.summary["families"]["divided"] == {"validation": 0, "test": 10}
    seen = tables.kept(f"{done.root}/q").query("seen_family")["path"]
    divided = {4000 + 100 * at + n for at in range(2) for n in range(4, 9)}
    assert {int(re.search(r"(\d+)\.", path).group(1)) for path in seen} == divided


def test_a_second_attempt_at_a_shard_writes_the_same_files(done):
    """A cluster starts such an attempt when it believes that a worker is dead."""
    files = {path: path.read_bytes() for path in done.root.rglob("*") if path.is_file()}
    uris = Uris(*(f"{done.root}/{name}" for name in ("examples", "kept", "q")))
    plan = Given(facts=Facts(vocabulary=("cat", "dog")))
    for _ in range(2):
        jobs = image_filter._jobs(uris)
        count = image_filter._decide(uris, plan)
        for job in jobs:
            image_filter._write_shard(job, count)
        assert {path: path.read_bytes() for path in files} == files
