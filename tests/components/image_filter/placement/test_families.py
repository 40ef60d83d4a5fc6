"""Families are found where names or capture times tell them, and nowhere else."""

import collections
import random
import uuid

import pytest

from imgpipe.components.image_filter.judge.image_row import ImageRow
from imgpipe.components.image_filter.placement.families import by_content

RANDOM = random.Random(0)
IDS = [uuid.UUID(int=RANDOM.getrandbits(128)) for _ in range(300)]
TIMES = [
    f"{2018 + n % 6}{1 + n % 12:02d}{1 + n % 28:02d}_{n % 24:02d}{n % 60:02d}30" for n in range(300)
]
FILMS = ("cooking", "garden", "street", "beach", "park", "zoo")
SPLITS = [(0, "train"), (1, "train"), (2, "train"), (3, "test"), (4, "test")]


def named(paths):
    """Return images whose class is their first folder."""
    return [ImageRow(path, path.partition("/")[0], image_hash=path) for path in paths]


def sizes(paths):
    """Return the sizes of the families of files with these paths, the largest first."""
    families = by_content(named(paths))
    return sorted(collections.Counter(families.values()).values(), reverse=True)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([f"p/IMG_{film}_mp4-{n}.jpg" for film in range(5567, 5579) for n in range(9)], [9] * 12),
        (
            [f"x/{p:08d}_{n:03d}.png" for p in range(40) for n in range(1 + p % 3)],
            [3] * 13 + [2] * 13,
        ),
        ([f"r/rock{take:02d}-{n:03d}.png" for take in range(8) for n in range(20)], [20] * 8),
        ([f"t/P{p:03d}-S01-T{n}.tif" for p in range(10) for n in range(4)], [4] * 10),
        ([f"t/patient{p}slide{n}.png" for p in range(10) for n in range(4)], [4] * 10),
        ([f"b/SOB_B_A-14-{s}CD-100-{n:03d}.png" for s in range(30) for n in range(6)], [6] * 30),
        ([f"v/VID_{TIMES[t]}_frame_{n}.jpg" for t in range(12) for n in range(5)], [5] * 12),
        ([f"v/take {t}/frame{n:04d}.jpg" for t in range(12) for n in range(30)], [30] * 12),
        ([f"y/talk_mov-{n}.jpg" for n in range(8)] + [f"y/{one}.jpg" for one in IDS], [8]),
        (
            [
                f"f/NAME{n}_jpg.rf.{one.hex}.jpg"
                for n in range(20)
                for one in IDS[3 * n : 3 * n + 3]
            ],
            [3] * 20,
        ),
        (
            [f"f/plum{c}{s}.jpg" for c in "abcdefgh" for s in ("", "_rot90", "_flip_h", "-aug-3")],
            [4] * 8,
        ),
        (
            [f"f/IMG_{n}{s}.jpg" for n in range(9) for s in ("", " (2)", " - Copy", "_bright1")],
            [4] * 9,
        ),
        (
            [f"k/aug_{n}_{RANDOM.randrange(9999)}.jpeg" for n in range(20) for _ in range(4)],
            [4] * 20,
        ),
        ([f"e/{one}_{s}.jpg" for one in range(7000, 7030) for s in "lr"], [2] * 30),
        ([f"e/{one}_{s}.jpg" for one in range(30) for s in ("left", "right")], [2] * 30),
        ([f"b/b ({n}){s}.png" for n in range(30) for s in ("", "_mask", " (2)")], [3] * 30),
        ([f"v/{film}_frame{n}.jpg" for film in FILMS for n in range(4)], [4] * 6),
        (
            [
                f"b/{n:05d}IMG_{n:05d}_BURST{time.replace('_', '')}{end}.jpg"
                for time in TIMES[:20]
                for n, end in enumerate(("_COVER", "", ""))
            ],
            [3] * 20,
        ),
        (
            [f"a/a_original_IMG_{n}.jpg_{one}.jpg" for n in range(20) for one in IDS[:3]],
            [3] * 20,
        ),
        ([f"{split}/a/p{p:02d}_{n}.jpg" for p in range(9) for n, split in SPLITS], [5] * 9),
    ],
)
def test_names_that_begin_alike_are_families(paths, expected):
    assert sizes(paths) == expected


@pytest.mark.parametrize(
    "paths",
    [
        [f"{kind}/{kind}.{n}.jpg" for kind in ("cat", "dog") for n in range(500)],
        [f"{kind}/{kind} ({n}).jpg" for kind in ("glass", "paper") for n in range(500)],
        [f"3/IMG_{n}.JPG" for n in range(1000, 1245)],
        [f"cats/{breed}_{n}.jpg" for breed in ("Abyssinian", "Bengal") for n in range(200)],
        [f"{kind}/{n}.jpg" for kind in "abcdef" for n in range(50)],
        [f"a/{one}.jpg" for one in IDS],
        [f"a/{one.hex}.jpg" for one in IDS],
        [f"a/{one.hex[:10]}.jpg" for one in IDS],
        [f"a/{n}_{one.hex[:10]}_n.jpg" for n, one in enumerate(IDS)],
        [f"a/IMG_{time}.jpg" for time in TIMES],
        [f"a/n020856{n % 20:02d}_{n}.JPEG" for n in range(150)],
        [f"a/IMG-{time[:8]}-WA{n:04d}.jpg" for n, time in enumerate(TIMES)],
        [f"a/{2010 + n % 9}_{n}.jpg" for n in range(90)],
        [f"a/{640 + n % 7}x480_{n}.jpg" for n in range(90)],
        [f"a/{40 + n % 7}.{n + 1000}_11.{n + 2000}.jpg" for n in range(90)],
        [f"a/COCO_train2014_{n:012d}.jpg" for n in range(0, 90000, 311)],
        [f"{split}/{n}.jpg" for split, count in (("a/x", 90), ("a/y", 20)) for n in range(count)],
        [f"a/images ({n}).jpg" for n in range(20)] + [f"a/b{n}.jpg" for n in range(80)],
        [
            f"{kind}/{year}/IMG_{year}{n}.jpg"
            for kind in "ab"
            for year in (2022, 2023)
            for n in range(30)
        ],
    ],
)
def test_names_of_other_forms_give_no_families(paths):
    assert by_content(named(paths)) == {}


@pytest.mark.parametrize(
    "copied",
    [
        *(
            "{} - Копия",
            "{} - コピー",
            "{}的副本",
            "{} – kopia",
            "{} (another copy)",
            "Kopie von {}",
        ),
        *("{} 2", "{}-2", "{}(1)", "{}~2", "{}_90", "{}-edited"),
    ],
)
@pytest.mark.parametrize("original", ["IMG_12{}", "plum{}x"])
def test_a_copy_is_of_the_family_of_its_original_in_any_language(copied, original):
    names = [original.format(letter) for letter in range(30, 60)]
    copies = [copied.format(name) for name in names[:9]]
    assert sizes([f"a/{name}.jpg" for name in (*names, *copies)]) == [2] * 9


def test_a_family_may_lie_in_several_classes():
    paths = [
        f"{sign}/{sign}.s{signer:02d}_{n}.png"
        for sign in "xyz"
        for signer in range(9)
        for n in range(2)
    ]
    assert sizes(paths) == [6] * 9
    families = by_content(named(paths))
    assert families["x/x.s03_0.png"] == families["z/z.s03_1.png"] == "s03*"


def shot(path, captured, camera="Phone 8"):
    """Return a photograph that was taken at a moment."""
    return ImageRow(path, "a", image_hash=path, camera=camera, captured=captured)


def test_photographs_of_one_camera_within_seconds_are_a_burst():
    photographs = [
        *(shot(f"a/{name}.jpg", 1000 + second) for name, second in (("u", 0), ("v", 2), ("w", 4))),
        shot("a/late.jpg", 1030),
        shot("a/other.jpg", 1001, "Phone 9"),
        ImageRow("a/unknown.jpg", "a"),
    ]
    assert by_content(photographs) == dict.fromkeys(
        ("a/u.jpg", "a/v.jpg", "a/w.jpg"), "burst of a/u.jpg"
    )


def test_a_clock_that_stands_still_gives_no_burst():
    assert by_content([shot(f"a/x{n}y.jpg", 1000) for n in range(40)]) == {}


def test_a_burst_joins_the_families_of_its_images():
    paths = [f"a/f{film}_{n}.jpg" for film in range(10) for n in range(3)]
    images = [shot(path, 1000 if path in ("a/f1_2.jpg", "a/f2_0.jpg") else 0) for path in paths]
    families = by_content(images)
    assert families["a/f1_0.jpg"] == families["a/f2_2.jpg"]
    assert len(set(families.values())) == 9
