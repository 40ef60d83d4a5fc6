"""CSV files of pixels, with or without header, for images of any square size."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgpipe.components.example_gen.sources import open_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests.components.example_gen.sources.trees import problems


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
    source = open_source(spec, options)
    return {
        i.path: (i.label, np.asarray(Image.open(io.BytesIO(source.read(i)))))
        for i in source.listing().items
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
    (tmp_path / "x.csv").write_text(f"p1,p2,p3,p4,{title}\n1,2,3,4,a\n5,6,7,8,NA\n5,6,7,8,b\n")
    found = decoded(str(tmp_path / "x.csv"))
    assert [label for label, _ in found.values()] == ["a", None, "b"]
    assert found["x/0000002.png"][1].tolist() == [[1, 2], [3, 4]]


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
    items = open_source(spec).listing().items
    assert [item.path for item in items if item.label is None] == ["t/0000009.png"]


def test_the_names_of_csv_files_in_a_folder_give_the_splits(table, tmp_path):
    table(draw(6, 4, 4), name="sign_mnist_train.csv")
    table(draw(3, 4, 4), name="sign_mnist_test.csv", header=True)
    scan = open_source(str(tmp_path)).scan()
    assert scan.given_splits == ("train", "test") and len(scan.items) == 9
    assert {i.split for i in scan.items if i.path.startswith("sign_mnist_test/")} == {"test"}
    again = open_source(f"csv:{tmp_path / 'sign_mnist_test.csv'}").listing()
    assert again.given_splits == () and len(again.items) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no row"),
        (
            "1,2,3,4\n",
            "4 columns, which are neither names .* nor the pixels of a square.* is 1, 2, 3, 4",
        ),
        ("a,1,2,3,4\na,1,2,3,4\n", r"one class only \(a\) in 2 files"),
    ],
)
def test_a_table_without_images_is_refused_with_the_cause(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        open_source(str(tmp_path / "x.csv")).listing()
    with pytest.raises(ConfigError, match=r"does not exist; expected a \.csv with a label"):
        open_source(str(tmp_path / "gone.csv")).listing()


def test_the_sample_of_sign_mnist_is_read(shared_data):
    folder = shared_data / "sign_mnist_sample"
    scan = open_source(str(folder)).scan()
    assert (len(scan.items), scan.given_splits) == (199, ("train", "test"))
    assert not any(problems(folder).values())
    found = decoded(str(folder / "sign_mnist_test_11rows_noheader.csv"))
    name, image = found["sign_mnist_test_11rows_noheader/0000001.png"]
    assert name == "11" and image.shape == (28, 28) and list(image[0, :3]) == [169, 170, 173]
