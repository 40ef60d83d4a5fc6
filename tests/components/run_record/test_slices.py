"""Accuracy by slices of images: counts add up."""

from imgpipe.components.report.sections import accuracy
from imgpipe.components.run_record.metrics import slices
from imgpipe.models.head.certainty import wilson
from tests.answer_tables import answer, table
from tests.run_results import result


def row(path, label=0, correct=True, **described):
    """Return the answer to an image with these measurements."""
    predicted = label if correct else label + 1
    values = {"format": b"JPEG", "path": path, "image_hash": path.encode()} | described
    return answer(0, label, predicted, **values)


def sliced(rows):
    """Return the slices of these answers."""
    return slices(table(["a", "b", "c"], *rows))


def summary(rows):
    """Return the rows of each slice by its name."""
    return {group["name"]: group["rows"] for group in sliced(rows)}


def test_formats_are_counted_and_the_most_frequent_comes_first():
    rows = [row("a/1", format=b"PNG", correct=False)]
    rows += [row(f"a/{i}", format=b"JPEG") for i in range(3)]
    [(name, found)] = summary(rows).items()
    assert name == "format"
    assert [(one["value"], one["count"], one["correct"]) for one in found] == [
        ("JPEG", 3, 3),
        ("PNG", 1, 0),
    ]
    assert found[0]["ci95"] == list(wilson(3, 3))


def test_frames_of_one_film_make_the_interval_of_a_slice_wider():
    rows = [row(f"a/{i}", format=b"PNG") for i in range(20)]
    rows += [row(f"b/{i}", format=b"JPEG", correct=i > 1) for i in range(20)]
    films = [one._replace(group=b"film %d" % (i // 5)) for i, one in enumerate(rows)]
    alone = summary(rows)["format"][0]["ci95"]
    assert summary(films)["format"][0]["ci95"][0] < alone[0] - 0.1


def test_slices_of_numbers_are_thirds_of_the_images():
    rows = [row(f"a/{i}", brightness=0.1 + i / 1000, correct=i >= 200) for i in range(600)]
    thirds = summary(rows)["brightness"]
    assert [one["count"] for one in thirds] == [200, 200, 200]
    assert [one["value"] for one in thirds] == ["up to 0.299", "0.299 to 0.499", "above 0.499"]
    assert [one["correct"] for one in thirds] == [0, 200, 200]


def test_images_of_mostly_one_size_give_no_slice_of_a_single_image():
    rows = [row(f"a/{i}", brightness=0.2) for i in range(90)]
    rows += [row("b/0", brightness=0.4, correct=False)]
    rows += [row(f"c/{i}", brightness=0.8) for i in range(9)]
    assert [one["count"] for one in summary(rows)["brightness"]] == [90, 10]


def test_folders_are_slices_only_if_they_are_not_the_classes():
    assert summary([row("cat/1"), row("dog/1", label=1)]) == {}
    mixed = [row("phone/1"), row("phone/2", label=1), row("camera/1", correct=False)]
    assert [one["value"] for one in summary(mixed)["folder"]] == ["phone", "camera"]


def test_slices_are_compared_with_all_images_not_with_those_shown():
    rows = [row(f"a{i}/{n}", n % 2, correct=n < 70) for i in range(12) for n in range(100)]
    rows += [row(f"b{i}/{n}", n % 2) for i in range(100) for n in range(50)]
    [_, shown] = accuracy.slices.build(result() | {"slices": sliced(rows)})
    assert [cells[3].words for cells in shown.rows] == ["0.700 weaker"] * 12


def test_large_numbers_are_written_in_full():
    rows = [row(f"a/{i}", width=1000 + 10 * i, height=4000) for i in range(300)]
    assert [one["value"] for one in summary(rows)["shorter side"]] == [
        "up to 1,990",
        "1,990 to 2,990",
        "above 2,990",
    ]


def test_images_without_measurements_are_in_no_slice():
    assert summary([row("a/1"), row("a/2", brightness=0.0, width=0)]) == {}
