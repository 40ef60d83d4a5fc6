"""Names propose families and pictures decide, whatever the names look like."""

import collections
import functools
import random
import re
import shlex
import uuid

import numpy as np
import pytest

from imgpipe.components.common.image_file.pixels import Pixels, perceptual_hashes
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.image_filter.copies.search import hash_table
from imgpipe.components.image_filter.placement import families
from imgpipe.components.image_filter.placement.families import UNCLEAR

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


def found(paths, seeds, **attributes):
    """Find the families of files of which each shows a scene; their class is the first folder."""
    rows = [
        ImageRow(path, label, image_hash=path, source_label=label)
        for path in paths
        for label in [path.partition("/")[0]]
    ]
    for name, values in attributes.items():
        for row, value in zip(rows, values, strict=True):
            setattr(row, name, value)
    return families.find(rows, *hash_table(paths, shown_all(map(scene, seeds))))


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
def test_frames_of_films_are_families_with_a_pattern_whatever_they_are_called(template):
    paths, film_of = films(template)
    result = found(paths, film_of)
    assert sizes(result) == [10] * 10
    by_film = {(film, result.by_content[path]) for path, film in zip(paths, film_of, strict=True)}
    assert len(by_film) == 10
    assert result.findings == []
    if "{end}" not in template:
        groups = [re.search(result.pattern, path).group(1) for path in paths]
        assert len({*zip(groups, film_of, strict=True)}) == len({*groups}) == 10


@pytest.mark.parametrize("template", ["a/{uuid}_{n}.jpg", "a/frame{n}-{uuid}.jpg"])
def test_films_that_are_called_by_a_uuid_are_families_with_a_pattern_for_all(template):
    paths, film_of = films(template, count=60, frames=6)
    result = found(paths, film_of)
    assert sizes(result) == [6] * 60
    groups = [re.search(result.pattern, path).group(1) for path in paths]
    assert len({*zip(groups, film_of, strict=True)}) == len({*groups}) == 60


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
        rows = [ImageRow(path, rng.choice("ab"), image_hash=path) for path in paths]
        given += bool(families.find(rows, *hash_table(paths, pictures)).by_content)
    assert given == 0


def test_the_numbers_of_a_class_that_changes_slowly_are_no_families():
    # The first half of the files comes from one source and the second half from another one.
    paths = [f"a/cat.{number:04d}.jpg" for number in range(240)]
    sources = [scene(3000 + number // 120) // 4 * 3 for number in range(240)]
    pictures = shown_all(
        np.maximum(source, scene(4000 + number) // 2) for number, source in enumerate(sources)
    )
    rows = [ImageRow(path, "a", image_hash=path) for path in paths]
    assert families.find(rows, *hash_table(paths, pictures)).by_content == {}


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
    rows = [ImageRow(path, "a", image_hash=path) for path in paths]
    result = families.find(rows, *hash_table(paths, pictures))
    assert result.by_content == {}
    [finding] = result.findings
    assert finding["reason"] == UNCLEAR
    assert finding["decides"]
    commands = [shlex.split(remedy)[-1] for remedy in finding["remedies"]]
    patterns = [command.removeprefix("data.group_pattern=") for command in commands]
    assert {re.search(pattern, paths[0]).group(1) for pattern in patterns} == {"person0", "room0"}


def test_families_too_large_for_a_split_are_used_and_said():
    paths, film_of = films("a/film{film}-{n}.jpg", count=4, frames=30)
    result = found(paths, film_of)
    assert sizes(result) == [30] * 4
    [finding] = result.findings
    assert finding["sentence"].startswith("4 families are too large for a split (a/film0*: 30 of")


def test_a_class_of_one_film_is_a_family_if_other_classes_have_several():
    paths, film_of = films("a/film{film}-{n}.jpg")
    result = found([*paths, *(f"b/film10-{n}.jpg" for n in range(10))], [*film_of, *[10] * 10])
    assert sizes(result) == [10] * 11
    [finding] = result.findings
    assert finding["sentence"].endswith("(b/film10*: 10 of 10 images of 'b')")


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
