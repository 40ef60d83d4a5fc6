"""CSV files of pixels, with or without header, for images of any square size."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgpipe.components.example_gen.sources import read_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests.components.example_gen.sources.trees import counted, fill, noted, problems


@pytest.fixture
def table(tmp_path):
    """Return a function that writes rows of (label, pixels) as a CSV file and returns its path."""

    def make(rows, header=False, name="t.csv", label_at=0, quote=""):
        lines = []
        for label, pixels in rows:
            cells = [f"{quote}{value}{quote}" for value in np.ravel(pixels)]
            cells.insert(label_at, str(label))
            lines.append(",".join(cells))
        if header:
            titles = [f"pixel{n + 1}" for n in range(np.size(rows[0][1]))]
            titles.insert(label_at, "label")
            lines.insert(0, ",".join(titles))
        (tmp_path / name).write_text("\r\n".join(lines) + "\r\n")
        return str(tmp_path / name)

    return make


def draw(count, *shape):
    values = np.random.default_rng(0).integers(0, 256, (count, *shape))
    return [(n % 3, values[n]) for n in range(count)]


def decoded(spec, options=None):
    images = read_source(spec, options)
    return {
        i.path: (i.label, np.asarray(Image.open(io.BytesIO(images.reader.read(i)))))
        for i in images.items
    }


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("shape", [(28, 28), (5, 5), (8, 8, 3)])
def test_rows_become_images(table, header, shape):
    rows = draw(6, *shape)
    found = decoded(table(rows, header))
    assert list(found) == [f"t/{n:07d}.png" for n in range(1 + header, 7 + header)]
    for (label, pixels), (name, image) in zip(rows, found.values(), strict=True):
        assert name == str(label) and (image == pixels).all() and image.dtype == np.uint8


@pytest.mark.parametrize("column", ["3", "label"])
def test_the_label_column_is_given_by_position_or_name(table, column):
    rows = draw(4, 4, 4)
    spec = table(rows, header=True, label_at=3, quote='"')
    found = decoded(spec, DataSettings(label_column=column))
    assert [name for name, _ in found.values()] == ["0", "1", "2", "0"]
    assert all((p == r[1]).all() for (_, p), r in zip(found.values(), rows, strict=True))


@pytest.mark.parametrize("title", ["Category", "class name", "labels", "y"])
def test_the_label_has_the_usual_names_of_all_tables(tmp_path, title):
    columns = [*(f"p{n}" for n in range(16)), title]
    rows = [[*range(first, first + 16), label] for first, label in ((0, "a"), (1, "NA"), (2, "b"))]
    text = "\n".join(",".join(map(str, row)) for row in (columns, *rows))
    (tmp_path / "x.csv").write_text(text)
    found = decoded(str(tmp_path / "x.csv"))
    assert [label for label, _ in found.values()] == ["a", None, "b"]
    assert found["x/0000002.png"][1].tolist() == np.arange(16).reshape(4, 4).tolist()


def test_bad_rows_are_unreadable_items_named_by_line(table, tmp_path):
    spec = table(draw(4, 4, 4))
    with Path(spec).open("a") as file:
        file.write("\n1,2,3\n")
        file.write("1," + ",".join(["256"] * 16) + "\n")
        file.write("1," + ",".join(["0.5"] * 16) + "\n")
        file.write("1," + ",".join(["7.0"] * 16) + "\n")
        file.write("," + ",".join(["7"] * 16) + "\n")
    wrong = "expected 16 pixels, each a whole number from 0 to 255"
    assert problems(spec) == {
        f"t/{line:07d}.png": wrong if line in (5, 6, 7) else "" for line in range(1, 10)
    }
    items = read_source(spec).items
    assert [item.path for item in items if item.label is None] == ["t/0000009.png"]


def test_the_names_of_csv_files_in_a_folder_give_the_splits(table, tmp_path):
    table(draw(6, 4, 4), name="sign_mnist_train.csv")
    table(draw(3, 4, 4), name="sign_mnist_test.csv", header=True)
    scan = read_source(str(tmp_path)).hashed()
    assert scan.given_splits == ("train", "test") and len(scan.items) == 9
    assert {i.split for i in scan.items if i.path.startswith("sign_mnist_test/")} == {"test"}
    again = read_source(str(tmp_path / "sign_mnist_test.csv"))
    assert again.given_splits == () and len(again.items) == 3


def test_other_files_beside_tables_of_pixels_are_noted(table, tmp_path):
    """As in the folder of a competition: a picture, a table without labels, a sample of answers."""
    table(draw(6, 4, 4), header=True, name="train.csv")
    titles = ",".join(f"pixel{n}" for n in range(16))
    (tmp_path / "test.csv").write_text(f"{titles}\n" + ",".join(["7"] * 16))
    (tmp_path / "sample_submission.csv").write_text("ImageId,label\n1,0\n2,0\n")
    (tmp_path / "signs.png").write_bytes(b"x")
    images = read_source(str(tmp_path))
    assert images.given_splits == ("train",) and len(images.items) == 6
    assert noted(images) == [
        ("beside_images", "sample_submission.csv"),
        ("beside_images", "signs.png"),
        ("unlabelled_split", "test/0000002.png"),
    ]


def test_tables_beside_folders_of_images_are_no_source(table, tmp_path):
    table(draw(6, 4, 4), name="pixels.csv")
    images = read_source(fill(tmp_path, "{cat,dog}/{1,2}.jpg"))
    assert counted(images) == {":cat": 2, ":dog": 2}


def test_a_table_whose_pixels_are_no_square_is_refused(table, tmp_path):
    spec = table(draw(3, 4, 4), header=True)
    with pytest.raises(ConfigError, match="17 columns, which are neither names of images nor"):
        read_source(spec, DataSettings(group_column="pixel3"))


def test_the_sample_of_sign_mnist_is_read(shared_data):
    folder = shared_data / "sign_mnist_sample"
    scan = read_source(str(folder)).hashed()
    assert (len(scan.items), scan.given_splits) == (199, ("train", "test"))
    assert not any(problems(folder).values())
    found = decoded(str(folder / "sign_mnist_test_11rows_noheader.csv"))
    name, image = found["sign_mnist_test_11rows_noheader/0000001.png"]
    assert name == "11" and image.shape == (28, 28) and list(image[0, :3]) == [169, 170, 173]
