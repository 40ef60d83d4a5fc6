"""Names propose families and pictures decide, whatever the names look like."""

import collections
import functools
import random
import re
import shlex
import uuid

import numpy as np
import pandas as pd
import pytest

from imgpipe.components.common.image_file.pixels import Pixels, perceptual_hashes
from imgpipe.components.image_filter import engine
from imgpipe.components.image_filter.placement import families
from imgpipe.components.image_filter.placement.families import UNCLEAR
from tests import image_tables

RANDOM = random.Random(0)
IDS = [uuid.UUID(int=RANDOM.getrandbits(128)).hex for _ in range(300)]
FILMS = ("cooking", "garden", "street", "beach", "park", "zoo", "harbour", "attic", "wood", "lake")


@functools.cache
def scene(*seeds):
    patches = np.random.default_rng(seeds).integers(0, 256, (6, 6, 3), np.uint8)
    return patches.repeat(8, axis=0).repeat(8, axis=1)


def shown(pixels, frame):
    """Return what the inspection keeps of a cut of a scene, which may be turned and mirrored."""
    rng = np.random.default_rng(frame)
    top, left = rng.integers(0, 16, 2)
    cut = np.rot90(pixels[top : top + 32, left : left + 32], rng.integers(4))
    return perceptual_hashes(Pixels(np.ascontiguousarray(cut[:, :: rng.choice([-1, 1])])))


def shown_all(scenes):
    return [shown(pixels, frame) for frame, pixels in enumerate(scenes)]


def found_in(rows, pictures):
    """Find the families of rows, of which each has a picture."""
    images = image_tables.table(rows)
    images["content"], contents = pd.factorize(images["image_hash"], sort=True)
    of_contents = engine.pictures_of(images["content"], len(contents), pictures)
    return families.find(images, of_contents)


def found(paths, seeds, **attributes):
    """Find the families of files of which each shows a scene; their class is the first folder."""
    rows = [
        image_tables.row(path, label, image_hash=path, source_label=label)
        for path in paths
        for label in [path.partition("/")[0]]
    ]
    for name, values in attributes.items():
        for row, value in zip(rows, values, strict=True):
            setattr(row, name, value)
    return found_in(rows, shown_all(map(scene, seeds)))


def sizes(result):
    return sorted(collections.Counter(result.by_content.values()).values(), reverse=True)


NAMED = [
    "a/IMG_{film:03d}_mp4-{n}.jpg",
    "a/{film:08d}_{n:03d}.png",
    "a/rock{film:02d}-{n:03d}.png",
    "a/P{film:03d}-S01-T{n}.tif",
    "a/patient{film}slide{n}.png",
    "a/take {film}/frame{n:04d}.jpg",
    "a/NAME{film}_jpg.rf.{id}.jpg",
    "a/a_original_IMG_{film}.jpg_{id}.jpg",
    "a/{word}_frame{n}.jpg",
    "a/{word}{end}.jpg",
    "a/frame{n:03d}_film{film}a.jpg",
    "a/afilm{film}_frame{n:03d}",
    "a/{id}.{n}.{film}.webp",
    "a/Фильм {film} кадр {n}.jpg",
    "a/映画{film}コマ{n}.png",
    "a/{n:03d}–{film:02d}.jpg",
    "a/{uuid}_{n}.jpg",
    "a/{number:05d}.jpg",
]


def films(template, count=10, frames=10):
    ends = ("", "_rot90", "_flip_h", "-aug-3", " (2)", "_bright1", "_grey", " - Kopia", "-x", "~")
    numbers = [(film, n) for film in range(count) for n in range(frames)]
    paths = [
        template.format(
            film=film,
            n=n,
            id=IDS[place % 300],
            uuid=uuid.UUID(IDS[film]),
            word=FILMS[film % len(FILMS)],
            end=ends[n % 10],
            number=10 * film + n,
        )
        for place, (film, n) in enumerate(numbers)
    ]
    return paths, [film for film, _ in numbers]


@pytest.mark.parametrize("template", NAMED)
def test_frames_of_films_are_families_whatever_they_are_called(template):
    paths, film_of = films(template)
    result = found(paths, film_of)
    assert sizes(result) == [10] * 10
    by_film = {(film, result.by_content[path]) for path, film in zip(paths, film_of, strict=True)}
    assert len(by_film) == 10
    assert result.findings == []


@pytest.mark.parametrize("template", ["a/{uuid}_{n}.jpg", "a/frame{n}-{uuid}.jpg"])
def test_films_that_are_called_by_a_uuid_are_families(template):
    paths, film_of = films(template, count=60, frames=6)
    result = found(paths, film_of)
    assert sizes(result) == [6] * 60


@pytest.mark.parametrize("template", NAMED)
def test_names_alone_are_no_families(template):
    paths, _ = films(template)
    assert found(paths, range(1000, 1100)).by_content == {}


def test_random_names_over_unlike_pictures_give_no_families():
    rng = random.Random(1)
    paths, _ = films("a/f{film}_{n}.jpg")
    pictures = shown_all(map(scene, range(2000, 2100)))
    given = 0
    for _ in range(50):
        rng.shuffle(pictures)
        rows = [image_tables.row(path, rng.choice("ab"), image_hash=path) for path in paths]
        given += bool(found_in(rows, pictures).by_content)
    assert given == 0


def test_the_numbers_of_a_class_that_changes_slowly_are_no_families():
    # The first half of the files comes from one source and the second half from another one.
    paths = [f"a/cat.{number:04d}.jpg" for number in range(240)]
    sources = [scene(3000 + number // 120) // 4 * 3 for number in range(240)]
    pictures = shown_all(
        np.maximum(source, scene(4000 + number) // 2) for number, source in enumerate(sources)
    )
    rows = [image_tables.row(path, "a", image_hash=path) for path in paths]
    assert found_in(rows, pictures).by_content == {}


def test_a_family_lies_in_several_classes_if_its_images_are_alike_there():
    paths = [
        f"{sign}/{sign}.s{n:02d}_{k}.png" for sign in "xyz" for n in range(12) for k in range(3)
    ]
    persons = [int(path[5:7]) for path in paths]
    assert sizes(found(paths, persons)) == [9] * 12
    other_persons = [100 * "xyz".index(path[0]) + int(path[5:7]) for path in paths]
    assert sizes(found(paths, other_persons)) == [3] * 36


@pytest.mark.parametrize("told_by", ["names", "moments"])
def test_persons_with_one_image_of_each_class_are_families(told_by):
    persons = [person for _ in "xyz" for person in range(20)]
    template = "{sign}/p{person:02d}.png" if told_by == "names" else "{sign}/{id}.png"
    paths = [
        template.format(sign="xyz"[place // 20], person=person, id=IDS[place])
        for place, person in enumerate(persons)
    ]
    times = [1000 * (person + 1) if told_by == "moments" else 0 for person in persons]
    assert sizes(found(paths, persons, captured=times)) == [3] * 20
    assert found(paths, range(60), captured=times).by_content == {}


def test_two_parts_that_tell_as_much_are_asked_about_with_a_command_each():
    paths = [f"a/person{p}_room{r}_{k}.jpg" for p in range(8) for r in range(8) for k in range(2)]
    scenes = []
    for path in paths:
        person, room = (int(text) for text in re.findall(r"\d+", path)[:2])
        both = [scene(5000 + person)[:, :24], scene(6000 + room)[:, 24:]]
        scenes.append(np.concatenate(both, axis=1))
    pictures = shown_all(scenes)
    rows = [image_tables.row(path, "a", image_hash=path) for path in paths]
    result = found_in(rows, pictures)
    assert result.by_content == {}
    [finding] = result.findings
    assert finding["reason"] == UNCLEAR
    assert finding["decides"]
    commands = [shlex.split(remedy)[-1] for remedy in finding["remedies"]]
    patterns = [command.removeprefix("data.group_pattern=") for command in commands]
    assert {re.search(pattern, paths[0]).group(1) for pattern in patterns} == {"person0", "room0"}


STAINS = {
    "he": (200, 60, 120),
    "tri": (60, 120, 200),
    "pas": (180, 80, 200),
    "silver": (120, 120, 120),
}


def of_scenes(paths, scenes):
    """Find the families of files that show these scenes; their class is the first folder."""
    rows = [
        image_tables.row(path, path[0], image_hash=path, source_label=path[0]) for path in paths
    ]
    return found_in(rows, shown_all(scenes))


@pytest.mark.parametrize("kinds", [2, 3, 4])
def test_what_each_class_has_much_of_is_a_condition_and_what_it_crosses_is_the_family(kinds):
    stains = [*STAINS][:kinds]
    paths = [f"{c}/cell{n:03d}_{stain}.png" for c in "ab" for n in range(30) for stain in stains]
    scenes = [
        (scene(ord(path[0]), int(path[6:9])) * 0.4 + 0.6 * np.array(STAINS[path[10:-4]])).astype(
            np.uint8
        )
        for path in paths
    ]
    result = of_scenes(paths, scenes)
    assert sizes(result) == [kinds] * 60
    [finding] = result.findings
    assert finding["reason"] == "condition"
    sets = {2: "twos", 3: "threes", 4: "fours"}[kinds]
    assert finding["sentence"].startswith(f"names come in {sets}: each of cell000* and others has")
    assert "*he*" in finding["sentence"] and not finding["remedies"]


def test_a_condition_whose_crossed_part_is_no_family_is_asked_about():
    # Views of cars, of which each stands on its own: what they share is the view.
    views = ("front", "left", "rear")
    paths = [f"{c}/car{n:02d}-{view}.jpg" for c in "ab" for n in range(40) for view in views]
    scenes = [
        np.maximum(scene(8000 + views.index(path[8:-4])) // 4 * 3, scene(8100 + place) // 2)
        for place, path in enumerate(paths)
    ]
    result = of_scenes(paths, scenes)
    assert result.by_content == {}
    [finding] = result.findings
    assert (finding["title"], finding["decides"]) == ("names come in threes", True)
    [command] = [shlex.split(remedy)[-1] for remedy in finding["remedies"]]
    pattern = command.removeprefix("data.group_pattern=")
    assert {re.search(pattern, path).group(1) for path in paths[:4]} == {"car00", "car01"}
    assert "films" not in str(finding)


@pytest.mark.parametrize("name", ["p{person:02d}_S{session}.jpg", "p{person:02d}S{session}.jpg"])
def test_numbers_of_several_lengths_are_not_divided(name):
    # Sessions 1 to 14 of a person: S1 to S9 and S10 to S14 are no families of their own.
    numbers = [(person, session) for person in range(4) for session in range(1, 15)]
    paths = ["a/" + name.format(person=person, session=session) for person, session in numbers]
    assert found(paths, [person for person, _ in numbers]).by_content == {}
    several = [path.replace("a/p", f"a/{c}") for c in "pq" for path in paths]
    result = found(several, [100 * (path[2] == "q") + int(path[3:5]) for path in several])
    assert sizes(result) == [14] * 8


@pytest.mark.parametrize("is_same_file", [True, False])
def test_a_few_equal_pairs_make_no_families_of_the_others(is_same_file):
    paths = [f"a/x{pair:03d}_{n}.jpg" for pair in range(160) for n in range(2)]
    seeds = [place // 2 if place < 80 else 1000 + place for place in range(320)]
    pictures = [shown(scene(seed), seed) for seed in seeds]
    contents = [
        f"{seed}" if is_same_file else path for path, seed in zip(paths, seeds, strict=True)
    ]
    rows = [
        image_tables.row(path, "a", image_hash=content, source_label="a")
        for path, content in zip(paths, contents, strict=True)
    ]
    result = found_in(rows, pictures)
    unlike = {content for content in result.by_content if content in contents[80:]}
    assert len(unlike) <= 0.05 * 240


def test_where_few_groups_are_alike_these_are_the_families():
    paths = [f"a/x{group:03d}_{n}.jpg" for group in range(120) for n in range(6)]
    seeds = [place // 6 if place < 180 else 1000 + place for place in range(720)]
    result = found(paths, seeds)
    alike = {int(family[3:6]) for family in result.by_content.values()}
    assert {*range(30)} <= alike and len(alike) <= 34


LAYOUTS = [
    "{label}/P{person:02d}/{n}.jpg",
    "P{person:02d}/{label}/{n}.jpg",
    "train/P{person:02d}/{label}/{n}.jpg",
    "set 2/P{person:02d}/{label}/{n}.jpg",
]


@pytest.mark.parametrize("both", [True, False], ids=["persons in both classes", "in one"])
@pytest.mark.parametrize("seed", range(3))
def test_families_do_not_change_where_a_level_moves_above_the_class(both, seed):
    rng = random.Random(seed)
    persons = [
        (person, rng.choice("ab") if not both or n < 2 else "ab"[n % 2], n)
        for person in range(20)
        for n in range(6)
    ]
    outcomes = []
    for layout in LAYOUTS:
        rows = [
            image_tables.row(
                layout.format(person=p, label=c, n=n), c, image_hash=f"{p}-{n}", source_label=c
            )
            for p, c, n in persons
        ]
        pictures = shown_all(scene(p) for p, _, _ in persons)
        outcomes.append(found_in(rows, pictures).by_content)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert len({*outcomes[0].values()}) == 20
    assert len(outcomes[0]) == 120


def test_families_above_the_folders_of_visits_and_of_the_class_are_found():
    paths = [
        f"site{p % 3}/P{p // 3:02d}/{'ab'[p % 2]}/visit{n % 2}/{n}.jpg"
        for p in range(30)
        for n in range(6)
    ]
    rows = [
        image_tables.row(path, path.split("/")[2], image_hash=path, source_label=path.split("/")[2])
        for path in paths
    ]
    persons = [place // 6 for place in range(180)]
    result = found_in(rows, shown_all(map(scene, persons)))
    assert sizes(result) == [6] * 30
    together = {
        (result.by_content[path], person) for path, person in zip(paths, persons, strict=True)
    }
    assert len(together) == 30


def test_a_class_of_one_film_is_a_family_if_other_classes_have_several():
    paths, film_of = films("a/film{film}-{n}.jpg")
    result = found([*paths, *(f"b/film10-{n}.jpg" for n in range(10))], [*film_of, *[10] * 10])
    assert sizes(result) == [10] * 11
    assert result.findings == []


def test_too_few_groups_to_be_sure_are_said():
    paths, film_of = films("a/film{film}-{n}.jpg", count=3, frames=2)
    singles = [f"a/{name}.jpg" for name in IDS[:40]]
    result = found([*paths, *singles], [*film_of, *range(7000, 7040)])
    assert result.by_content == {}
    [finding] = result.findings
    assert finding["reason"] == "nearly_families"
    assert "data.group_pattern" in finding["remedies"][0]


def test_photographs_that_one_camera_took_within_seconds_are_a_burst():
    paths = [f"a/{name}.jpg" for name in IDS[:60]]
    bursts = [number // 3 for number in range(30)]
    seeds = [*bursts, *range(100, 130)]
    times = [1000 * seed + 1 + number % 3 for number, seed in enumerate(seeds)]
    result = found(paths, seeds, captured=times, camera=["Phone 8"] * 60)
    assert sizes(result) == [3] * 10
    still = found(paths, range(60), captured=[1000] * 60, camera=["Phone 8"] * 60)
    assert still.by_content == {}


def test_a_burst_joins_the_family_of_its_images():
    paths, film_of = films("a/film{film}-{n}.jpg")
    paths = [*paths, *(f"a/{name}.jpg" for name in IDS[100:110])]
    seeds = [*film_of, *range(10)]
    times = [0] * len(paths)
    for film in range(10):
        times[10 * film] = times[100 + film] = 1000 * (film + 1)
    result = found(paths, seeds, captured=times)
    assert sizes(result) == [11] * 10


def test_a_given_group_of_several_rules_its_images_and_no_others():
    paths, film_of = films("a/film{film}-{n}.jpg")
    rows = [image_tables.row(path, "a", image_hash=path, source_label="a") for path in paths]
    rows[0].group = rows[1].group = "ann"
    rows[2].group = "bob"  # who has no other image
    images = image_tables.table(rows)
    engine.belongings(images, shown_all(map(scene, film_of)), radius=0)
    assert sorted(images["family"].value_counts()) == [2, 8, *[10] * 9]
    assert images["family"][:2].tolist() == ["a/film0-0.jpg"] * 2
    assert images["group"][:4].tolist() == ["ann", "ann", "a/film0*", "a/film0*"]
    assert images["is_family"][:4].tolist() == [False, False, True, True]


def test_a_family_has_the_near_duplicates_of_its_images_too():
    paths, film_of = films("a/film{film}-{n}.jpg")
    rows = [image_tables.row(path, "a", image_hash=path, source_label="a") for path in paths]
    hashes = shown_all(map(scene, film_of))
    hashes[10] = hashes[0]  # films 0 and 1 have an image in common
    images = image_tables.table(rows)
    engine.belongings(images, hashes, radius=40)
    assert sorted(images["family"].value_counts()) == [*[10] * 8, 20]
