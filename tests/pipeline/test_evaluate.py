"""Tests of `imgpipe evaluate`: a version on labelled images, and what metrics do not show."""

import functools
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imgpipe
from imgpipe.components.common import images as tables
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import read_source
from imgpipe.models import names
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.head.certainty import wilson
from imgpipe.models.head.learned import Learned
from imgpipe.pipeline.demo import draw_hand
from tests.command import answered, ran
from tests.images import class_folders, frame
from tests.pipeline import past_runs
from tests.pipeline.small_version import CLASSES


@pytest.fixture
def photos(tmp_path) -> Path:
    """Return a folder with six images of each class."""
    drawn = {label: [draw_hand(label, seed=n, size=96) for n in range(6)] for label in CLASSES}
    return class_folders(tmp_path / "new", drawn)


evaluate = functools.partial(ran, "evaluate")
answer = functools.partial(answered, "evaluate")


def figures(*words):
    return answer(*words)["metrics"]["evaluation"]


def test_metrics_agree_with_the_answers_of_predict(out, photos):
    palette = draw_hand("rock", seed=9, size=96).convert("P")
    palette.save(photos / "rock" / "9.bmp")  # a run would repair its colours; the model answers it
    found = answer("--model", out, "--data", photos)
    rows = answered("predict", "--model", out, photos)
    right = sum(Path(row["image"]).parent.name == row["label"] for row in rows)
    measured, answers = found["metrics"]["evaluation"], found["answers"]
    assert (measured["count"], measured["correct"]) == (13, right)
    assert measured["accuracy"] == pytest.approx(right / 13)
    assert measured["ci95"][0] < measured["accuracy"] < measured["ci95"][1]
    assert sum(count for _, _, count in answers["confusion"]) == 13
    recalls = [measured["per_class"][label]["recall"] for label in CLASSES]
    assert np.average(recalls, weights=[6, 7]) == pytest.approx(measured["accuracy"])
    assert len(answers["mistakes"]) == 13 - right
    assert (found["status"], answers["threshold"]) == ("evaluated", None)
    assert (found["evaluation"]["version"], found["evaluation"]["seen"]) == (1, None)
    assert "It is not known which images" in found["findings"][0]["sentence"]


def test_unknown_labels_and_undecodable_images_are_counted(out, photos):
    (photos / "paper" / "broken.jpg").write_bytes(b"no image")
    (photos / "lizard").mkdir()
    draw_hand("rock", seed=1, size=64).save(photos / "lizard" / "1.png")
    for file in (photos / "rock").iterdir():
        file.unlink()
    found = answer("--model", out / "model" / "1", "--data", photos)
    measured = found["metrics"]["evaluation"]
    assert (found["evaluation"]["images"], measured["count"]) == (8, 6)
    assert found["evaluation"]["unknown_labels"] == {"lizard": 1}
    undecodable = found["findings"][0]
    assert (undecodable["reason"], undecodable["count"]) == ("undecodable", 1)
    assert undecodable["examples"][0]["path"] == "paper/broken.jpg"
    assert found["findings"][0]["sentence"].startswith(
        "1 file is not evaluated (paper/broken.jpg: "
    )
    assert found["findings"][1]["sentence"] == (
        "1 image is not evaluated, because the model has no class of its label (lizard)"
    )
    assert found["findings"][-1]["sentence"].startswith(
        "All evaluated images are of the class paper"
    )
    assert measured["per_class"]["rock"]["recall"] is None


def test_files_that_a_run_transcodes_are_evaluated_as_png(out, photos, tmp_path):
    page = tmp_path / "page.html"
    asked = ("--model", out / "model" / "1", "--html", page, "--data", photos)
    expected = answer(*asked)
    pictures = page.read_text("utf-8").count("data:image/")
    for file in sorted(photos.glob("*/*.png")):
        with Image.open(file) as image:
            image.save(file.with_suffix(".tif"))
        file.unlink()
    found = answer(*asked)
    assert "undecodable" not in [finding["reason"] for finding in found["findings"]]
    assert found["metrics"] == expected["metrics"]
    assert found["answers"]["confusion"] == expected["answers"]["confusion"]
    assert page.read_text("utf-8").count("data:image/") == pictures > 1


def test_a_threshold_decides_the_exit_code(out, photos, tmp_path):
    page, file = tmp_path / "page.html", tmp_path / "evaluation.json"
    asked = ("--model", out, "--data", photos)
    ended = evaluate(*asked, "--threshold", 1, "--html", page, "--json", file)
    found = json.loads(file.read_text())
    measured = found["metrics"]["evaluation"]
    assert 0 < measured["correct"] < 12, "the network is not trained"
    assert found["status"] == "below_threshold"
    assert ended.exit_code == 3 and "is below the threshold 1" in ended.stdout
    shutil.rmtree(photos / "paper")  # the network takes everything for rock
    passed = evaluate(*asked, "--threshold", 0.7)
    assert passed.exit_code == 0 and "reaches the threshold 0.7" in passed.stdout
    html = page.read_text("utf-8")
    assert found["verdict"][1:] in html and "<script" not in html
    assert "What is taken for what" in html
    assert "Could not be drawn" not in html and html.count("data:image/webp;base64,") >= 2


def test_few_images_cannot_show_that_a_threshold_is_reached(out, photos):
    per_class = figures("--model", out, "--data", photos)["per_class"]
    recalls = {name: row["recall"] for name, row in per_class.items()}
    best = max(CLASSES, key=recalls.__getitem__)
    for label in {*CLASSES} - {best}:
        shutil.rmtree(photos / label)
    ended = evaluate("--model", out, "--data", photos, "--threshold", recalls[best])
    assert ended.exit_code == 3
    assert "but it cannot be judged: 6 images in this source; about" in " ".join(
        ended.stdout.split()
    )


def test_always_answering_the_commonest_class_does_not_pass_a_threshold(out, photos):
    for seed in range(10, 50):
        draw_hand("rock", seed=seed, size=96).save(photos / "rock" / f"{seed}.png")
    for file in sorted(photos.glob("paper/*"))[2:]:
        file.unlink()
    ended = evaluate("--model", out, "--data", photos, "--threshold", 0.9)
    assert ended.exit_code == 3
    assert (
        "accuracy 0.917 (44 of 48 correct, 95 % interval 0.80–0.97) reaches the threshold 0.9, but "
        "it is not better in this source than always answering 'rock', which is right for 46 of 48"
    ) in " ".join(ended.stdout.split())


def test_images_of_one_class_are_judged_by_their_recall(out, photos, tmp_path):
    shutil.rmtree(photos / "paper")
    for source in (photos, Path(shutil.make_archive(str(tmp_path / "new"), "zip", photos))):
        found = answer("--model", out, "--data", source)
        measured = found["metrics"]["evaluation"]
        assert measured["count"] == 6
        assert measured["per_class"]["rock"]["recall"] == measured["accuracy"]
        assert found["findings"][-1]["sentence"] == (
            "All evaluated images are of the class rock, so the accuracy is its recall, and "
            "precision and F1 say nothing"
        )
    table = tmp_path / "new.csv"
    rows = [f"{file},rock,test" for file in sorted(photos.glob("rock/*"))]
    table.write_text("\n".join(["path,label,split", *rows]))
    assert figures("--model", out, "--data", table)["count"] == 6


def test_the_python_function_gives_the_result_of_the_command(out, photos, tmp_path):
    page = tmp_path / "command.html"
    command = answer("--model", out, "--data", photos, "--threshold", 1, "--html", page)
    found = imgpipe.evaluate(out, photos, threshold=1)
    assert found.result == command
    measured = command["metrics"]["evaluation"]
    assert (found.accuracy, list(found.interval)) == (measured["accuracy"], measured["ci95"])
    assert (found.passed, found.verdict) == (False, command["verdict"])
    assert found.metrics == command["metrics"]
    saved = found.save(tmp_path / "page.html")
    assert saved.read_text("utf-8") == page.read_text("utf-8")
    with pytest.raises(ConfigError, match=r"did you mean 'data\.label_column'\?"):
        imgpipe.evaluate(out, photos, **{"data.label_colum": "species"})


def test_the_page_is_drawn_without_images_that_were_removed(out, photos):
    found = imgpipe.evaluate(out, photos)
    mistakes = {row["path"] for row in found.result["answers"]["mistakes"]}
    (photos / min(mistakes)).unlink()
    assert "Could not be drawn" not in found.html and min(mistakes) in found.html


def _as_training_data(out: Path, source: Path, split: str = names.TRAIN) -> None:
    """Write a past run that had the images of a source in one of its splits."""
    images = read_source(str(source))
    quarantine = out / "artifacts" / "ImageFilter" / "quarantine" / "4"
    artifacts = past_runs.leave_quarantine(quarantine, [])
    rows = inspect(images.reader, images.items, 1 << 24, vocabulary=CLASSES)
    table = tables.frame(rows, large=True)
    tables.write(tables.shard_path(str(quarantine), 0, 1), table.assign(split=split))
    past_runs.leave(out, "20260101-000000", version=1, artifacts=artifacts)


def test_images_that_were_in_the_training_data_are_found(out, photos, tmp_path):
    copy = shutil.copytree(out / "model", tmp_path / "out" / "model").parent
    trained = tmp_path / "trained" / "rock"
    trained.mkdir(parents=True)
    (tmp_path / "trained" / "paper").mkdir()
    draw_hand("paper", seed=52, size=160).save(tmp_path / "trained" / "paper" / "52.png")
    for seed in (50, 51):
        draw_hand("rock", seed=seed, size=160).save(trained / f"{seed}.png")
    _as_training_data(copy, trained.parent)
    shutil.copy(trained / "50.png", photos / "rock" / "same.png")
    Image.open(trained / "51.png").resize((100, 100)).save(photos / "rock" / "near.jpg")
    found = answer("--model", copy, "--data", photos)
    seen = found["evaluation"]["seen"]
    assert seen["by_split"] == {"train": 2}
    seen = {row["path"] for row in seen["first"]}
    assert seen == {"rock/same.png", "rock/near.jpg"}
    measured = found["metrics"]["evaluation"]
    assert (measured["count"], measured["seen"]["count"]) == (12, 2)
    assert sum(count for _, _, count in found["answers"]["confusion"]) == 12
    assert found["findings"][0]["sentence"] == (
        "2 images are not counted: the run that made the model had them, near-duplicates of them "
        "or others of their families (2 in train). On them the accuracy is 1.000 (2 of 2 correct)"
    )


def test_where_no_image_is_new_nothing_is_judged(out, photos, tmp_path):
    copy = shutil.copytree(out / "model", tmp_path / "out" / "model").parent
    _as_training_data(copy, photos)
    page, file = tmp_path / "page.html", tmp_path / "evaluation.json"
    asked = ("--model", copy, "--data", photos)
    ended = evaluate(*asked, "--threshold", 0.5, "--html", page, "--json", file)
    assert ended.exit_code == 3
    found = json.loads(file.read_text())
    assert found["verdict"].startswith("cannot be judged: no image is new to the model; evaluate")
    assert found["metrics"]["evaluation"]["accuracy"] is None
    assert found["metrics"]["evaluation"]["seen"]["count"] == 12
    assert "On them the accuracy is 0.500 (6 of 12 correct)" in page.read_text("utf-8")
    assert "could not be drawn" not in page.read_text("utf-8").lower()
    assert imgpipe.evaluate(copy, photos).accuracy is None


def test_a_version_says_what_it_has_learned_from_where_its_run_is_gone(out, photos, tmp_path):
    copy = shutil.copytree(out / "model", tmp_path / "out" / "model").parent
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in photos.glob("rock/*")]
    learned = Learned.of(np.array(hashes, np.bytes_), np.array([], np.bytes_))
    learned.write(str(copy / "model" / "1"))
    measured = figures("--model", copy, "--data", photos)
    assert (measured["count"], measured["seen"]["count"]) == (6, 6)
    assert measured["per_class"]["rock"]["count"] == 0


def test_images_of_the_test_split_do_not_make_the_accuracy_too_high(out, photos, tmp_path):
    copy = shutil.copytree(out / "model", tmp_path / "out" / "model").parent
    _as_training_data(copy, photos, names.TEST)
    found = answer("--model", copy, "--data", photos)
    assert found["evaluation"]["seen"]["by_split"] == {"test": 12}
    assert found["metrics"]["evaluation"]["seen"] is None and found["findings"] == []


def test_a_pattern_that_groups_no_images_leaves_the_families(out, tmp_path):
    for label in CLASSES[:2]:
        for film in range(10):
            for n in range(5):
                file = tmp_path / "films" / label / f"{label}{film}_{n}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(frame(film + 50 * (label == CLASSES[0]), 100 * film + n))
    asked = ("--model", out, "--data", tmp_path / "films")
    without = figures(*asked)
    assert figures(*asked, "--set", "data.group_pattern=(.+)")["ci95"] == without["ci95"]
    assert without["ci95"] != list(wilson(without["correct"], without["count"]))


def test_what_cannot_be_is_refused(out, photos, tmp_path):
    with pytest.raises(ConfigError, match=r"no label is a class of the model.*Received: cat, dog"):
        for label in ("cat", "dog"):
            (tmp_path / "other" / label).mkdir(parents=True)
            shutil.copy(photos / "rock" / "0.png", tmp_path / "other" / label)
        evaluate("--model", out, "--data", tmp_path / "other")
    with pytest.raises(ResourceError, match="there is no such folder"):
        evaluate("--model", tmp_path / "gone", "--data", photos)
    with pytest.raises(ConfigError, match=r"expected a share from 0 to 1\. Received: 90"):
        evaluate("--model", out, "--data", photos, "--threshold", 90)
    for threshold in (None, "0.5"):
        with pytest.raises(ConfigError, match=f"from 0 to 1. Received: {threshold!r}"):
            imgpipe.evaluate(out, photos, threshold=threshold)
    for file in photos.glob("*/*"):
        file.write_bytes(b"no image")
    with pytest.raises(
        ConfigError, match=r"no image could be evaluated. 12 files are not evaluated \(paper/0"
    ):
        evaluate("--model", out, "--data", photos)
