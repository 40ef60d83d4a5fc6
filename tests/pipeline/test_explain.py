"""Tests of `imgpipe explain`: the written images, the output and refused arguments."""

import shutil
import tracemalloc
from pathlib import Path

import pytest
import typer
from PIL import Image

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.commands import explain
from tests.images import encoded, exif, noise


@pytest.fixture
def photo(tmp_path):
    """Return a PNG file of noise, 400 x 330 pixels."""
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(noise(size=(400, 330))))
    return path


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_image_gets_its_label_and_grad_cam(out, photo, tmp_path, capfd):
    to = tmp_path / "out"
    explain.command([photo], out, [], to)
    said = capfd.readouterr().out
    assert str(photo) in said
    first = next(line for line in said.splitlines() if str(photo) in line)
    assert "paper 0." in first and "rock 0." in first
    for step in ("Loading TensorFlow", "Loading the model", "Drawing images"):
        assert f"✓ {step} " in said
    assert _names(to / "photo") == ["grad_cam.png"]
    assert "photo/grad_cam.png" in said
    with Image.open(to / "photo" / "grad_cam.png") as sheet:
        assert len(sheet.convert("RGB").getcolors(1 << 20)) > 100, "it shows the image"


@pytest.mark.slow
def test_drawings_of_a_file_whose_name_begins_with_dots_stay_in_the_folder(out, photo, tmp_path):
    dots = photo.rename(tmp_path / "...png")
    explain.command([dots], out, ["conv1"], tmp_path / "out" / "new")
    assert _names(tmp_path / "out") == ["new"]
    assert _names(tmp_path / "out" / "new") == ["...png"]


def test_a_photograph_of_a_phone_is_drawn_small(out, tmp_path, monkeypatch):
    peaks = []
    draw = explain._explain

    def traced(*arguments):
        tracemalloc.start()  # only now: it would make the loading of the model ten times slower
        answer = draw(*arguments)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        return answer

    monkeypatch.setattr(explain, "_explain", traced)
    large = Image.fromarray(noise(1, (30, 40))).resize((2400, 1800))
    stored = large.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "turned.jpg", exif=exif(6))
    large.convert("RGB").save(tmp_path / "page.tif")
    photos = [tmp_path / "turned.jpg", tmp_path / "page.tif"]
    explain.command(photos, out, [], tmp_path / "out")
    assert _names(tmp_path / "out") == ["page", "turned"]
    assert max(peaks) < 2400 * 1800 * 3 * 4, "matplotlib took 8 bytes for each value of all pixels"


def test_all_feature_maps_are_drawn(out, photo, tmp_path, capfd):
    explain.command([photo], out, ["all"], tmp_path / "out")
    names = _names(tmp_path / "out" / "photo")
    said = capfd.readouterr().out
    assert all(f"photo/{name}" in said for name in names)
    for layer in ("normalise", "conv1", "pool1", "conv2", "pool2"):
        assert any(name.endswith(f"_{layer}.png") for name in names), names
    assert not any("probabilities" in name for name in names), "it is no map"


def test_an_unknown_layer_is_a_bad_argument(out, photo, tmp_path):
    with pytest.raises(ConfigError, match=r"Received: 'conv3'; nearest: conv"):
        explain.command([photo], out, ["conv3"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_image_is_named_and_images_of_the_same_name_get_their_own_folders(
    out, photo, tmp_path, capfd
):
    text = tmp_path / "notes.txt"
    text.write_text("not an image")
    other = tmp_path / "b" / "photo.png"
    other.parent.mkdir()
    shutil.copy(photo, other)
    to = tmp_path / "out"
    with pytest.raises(typer.Exit, match=r"^2$"):
        explain.command([text, tmp_path / "nowhere.png", photo, other], out, ["conv2"], to)
    said = capfd.readouterr().out
    assert "notes.txt could not be explained: the file is no image, but text." in said
    assert "nowhere.png could not be explained: there is no such file." in said
    assert "2 of 4 images could not be explained" in said
    assert _names(to) == ["photo", "photo-2"]
    for name in _names(to):
        assert _names(to / name) == ["001_conv2.png", "grad_cam.png"]
    one, two = (to / name / "001_conv2.png" for name in _names(to))
    assert one.read_bytes() == two.read_bytes()


def test_a_version_without_its_network_is_refused(out, photo, tmp_path):
    version = Path(shutil.copytree(out / "made-1", tmp_path / "old"))
    shutil.rmtree(version / "assets.extra" / "network")
    with pytest.raises(ResourceError, match="Only versions that a run has published"):
        explain.command([photo], version, [], tmp_path / "out")


def test_an_unwritable_target_folder_is_a_missing_resource(out, photo, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ResourceError, match="cannot write"):
        explain.command([photo], out, ["conv1"], tmp_path / "out")
