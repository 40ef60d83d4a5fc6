"""Tests of `imgpipe check`: exit codes, output, and the same findings as ImageFilter's."""

import collections
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from imgpipe.components.common import images as tables
from imgpipe.components.common.storage.records import iterate, text
from imgpipe.components.data_gate import accepted
from imgpipe.components.example_gen.image_example_gen import ingest
from imgpipe.components.image_filter import quarantine
from imgpipe.components.image_filter.findings import reviewed, with_severity
from imgpipe.components.image_filter.image_filter import Uris, filter_examples
from imgpipe.components.image_filter.judge import overrides
from imgpipe.models.settings.given import Facts, Given
from imgpipe.models.settings.override import Override
from imgpipe.pipeline import data_check
from imgpipe.pipeline.application import app
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.definition import plan as plans
from imgpipe.pipeline.definition.source import listed, usable
from imgpipe.pipeline.demo import FAULTS, draw, draw_hand
from tests import json_formats, python_program
from tests.command import ran
from tests.images import class_folders, save

# With these settings, sixteen images are enough for a run.
FEW = ("gate.min_train=1", "gate.min_validation=1", "split.validation=0.4")
FEW = tuple(word for setting in FEW for word in ("--set", setting))


def check(*arguments):
    """Run `imgpipe check` in this process; return the exit code and the output."""
    result = CliRunner().invoke(app, ["check", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """Draw the demo data set with its planted faults."""
    return draw(tmp_path_factory.mktemp("demo") / "photos", per_class=8)


@pytest.fixture
def clean(tmp_path):
    """Return a folder with sixteen good images of two classes, none of them near-duplicates."""
    drawn = {
        label: [draw_hand(label, seed=number, size=64) for number in range(8)]
        for label in ("rock", "paper")
    }
    return class_folders(tmp_path / "clean", drawn)


@pytest.fixture
def films(tmp_path):
    """Return five films of two classes, each of four crops of one image, shifted by a pixel."""
    for label in ("rock", "paper"):
        for film in range(5):
            scene = draw_hand(label, seed=film, size=120)
            for frame in range(4):
                crop = scene.crop((frame, frame, frame + 110, frame + 110))
                save(crop, tmp_path / "films" / label / f"{film}-{frame}.png")
    return tmp_path / "films"


def test_a_pattern_that_groups_no_images_leaves_the_families(films):
    config = configs.build({"data": {"source": str(films), "group_pattern": "(.+)"}})
    families = data_check.judge(config, listed(config, ""), "").data["families"]
    assert families["found"] and families["images"] == 40


def test_frames_of_a_film_stay_together_and_none_is_rejected(films, tmp_path):
    for file in films.rglob("*.png"):  # names that tell nothing
        file.rename(file.with_stem(hashlib.sha256(str(file).encode()).hexdigest()))
    split = {"validation": 0.2, "test": 0.2}
    judged = assert_same(tmp_path, films, split=split, gate={"min_validation": 3})
    assert with_severity(judged.judgement.findings, "reject") == []
    near = judged.judgement.images.query("near_group > 0").groupby("near_group")
    assert len(near) and (near["split"].nunique() == 1).all()
    splits = judged.data["by_split"]
    assert min(splits["validation"].values()) >= 3 and min(splits["test"].values()) >= 1
    written = {
        split: collections.Counter(
            text(example, name)
            for example in iterate(f"{tmp_path}/kept", split)
            for name in ("label", "split")
        )
        for split in splits
    }
    for split, labels in splits.items():
        assert written[split] == labels | {split: sum(labels.values())}


def filtered(root, config):
    """Run ImageFilter in Beam with the plan of a run; return its summary, findings and table."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    def pipeline():
        return beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))

    plan = plans.make(config, usable(config).hashed())
    ingest(pipeline(), f"{root}/examples", Given.read(plan.texts["ImageExampleGen"]))
    uris = Uris(*(f"{root}/{name}" for name in ("examples", "kept", "q")))
    summary = filter_examples(pipeline(), uris, Given.read(plan.texts["ImageFilter"]))
    return summary, quarantine.read_findings(f"{root}/q"), tables.read(f"{root}/q")


def assert_same(root, photos, **sections):
    """Assert that check and ImageFilter agree on every file; return check's result."""
    places = {"run": {"out": str(root / "out")}, "data": {"source": str(photos)}}
    config = configs.build({**places, **sections})
    judged = data_check.judge(config, listed(config, ""), "")
    summary, findings, table = filtered(root, config)
    assert judged.judgement.findings == [finding | {"stored": ""} for finding in findings]
    columns = [name for name in tables.COLUMNS if name != "stored"]
    by_path = [each[columns].sort_values("path") for each in (judged.judgement.images, table)]
    assert by_path[0].reset_index(drop=True).equals(by_path[1].reset_index(drop=True))
    assert judged.data == summary
    return judged


def test_classes_from_two_sources_are_told_apart_by_their_files_on_every_driver(tmp_path):
    photos = tmp_path / "photos"
    for number in range(40):
        label = ("covid", "normal")[number % 2]
        scene = draw_hand("rock", seed=number, size=80)
        scene = scene.resize((80, 60)) if number % 2 else scene.convert("L")
        save(scene, photos / label / f"{number}x.{('png', 'jpg')[number % 2]}")
    judged = assert_same(tmp_path, photos)
    clues = judged.data["file_clues"]
    assert clues is not None and clues["right"] == clues["images"] >= 30
    code, output = check(photos, *FEW, "--html", tmp_path / "check.html")
    words = " ".join(output.split())
    assert code == 0
    assert "format, colour mode, size" in words
    assert "alone tell 100 % of the images apart" in words
    assert "usable: 40 of 40 images kept" in words
    page = (tmp_path / "check.html").read_text()
    for where in (words, page):
        assert "take images of all classes from the same sources" in where


def test_findings_equal_those_of_image_filter_with_other_severities(faulty, tmp_path):
    files = sorted((faulty / "rock").glob("IMG_000?.jpg"))
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    decisions = (
        Override(digests[0], "accept"),
        Override(digests[1], "reject"),
        Override(digests[2], "relabel", "paper"),
        Override("0" * 64, "accept"),
    )
    names = ("dark", "near_duplicate", "greyscale", "blurry")
    severity = dict.fromkeys(names, "reject")
    file = tmp_path / "overrides.toml"
    file.write_text(overrides.to_toml(decisions))
    judge = {"severity": severity, "threshold": {"dark": 0.9}, "overrides": str(file)}
    judged = assert_same(tmp_path, faulty, judge=judge)
    found = judged.judgement
    assert "dark" in {each["reason"] for each in with_severity(found.findings, "reject")}
    effects = reviewed(found.images, found.findings)
    assert {effect["reason"] for effect in effects} == {"accept", "reject", "relabel"}
    assert judged.data["overrides"]["unknown"] == 1


def test_findings_equal_those_of_image_filter_on_broken_files(shared_data, tmp_path):
    entries = json.loads((shared_data / "broken_images/manifest.json").read_text())
    folder = tmp_path / "photos"
    for number, entry in enumerate(sorted(entries, key=lambda entry: entry["path"])):
        place = folder / "ab"[number % 2] / Path(entry["path"]).name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data / entry["path"], place)
    judged = assert_same(tmp_path, folder, judge={"min_side": 1})
    assert judged.data["in"] == len(entries)


def test_a_source_without_problems_is_reported_as_clean(clean, tmp_path):
    code, text = check(clean, "--json", tmp_path / "c.json", *FEW)
    assert code == 0 and "clean: 16 images, no problems found" in text
    table = re.findall(r"^(Class|paper|rock|all classes) +(.*)$", text, re.MULTILINE)
    assert [name for name, _ in table] == ["Class", "paper", "rock", "all classes"]
    assert table[-1][1].split()[-1] == "16"
    found = json.loads((tmp_path / "c.json").read_text())
    assert (found["status"], found["data"]["in"], found["data"]["kept"]) == ("clean", 16, 16)
    nothing = {"repaired": [], "warned": [], "reviewed": []}
    assert (found["rejected"], found["files"]) == ([], nothing)


def test_clean_is_not_said_beside_images_that_were_left_out(clean, tmp_path):
    for number in range(8):
        (clean / "masks").mkdir(exist_ok=True)
        shutil.copy(clean / f"rock/{number}.png", clean / f"masks/{number}.png")
    (clean / "rock/notes.txt").write_text("x")
    skip = ("--set", 'data.skip=["masks"]')
    code, text = check(clean, *FEW, *skip, "--json", tmp_path / "c.json")
    unused = "1 file that is no image (.txt); 8 skipped files (masks)"
    lines = text.splitlines()
    assert code == 0 and f"usable: 16 of 25 files kept; not used: {unused}" in lines
    for sentence in unused.split("; "):
        assert f"Not used: {sentence}." in lines
    assert "25 found = 16 kept + 0 rejected + 9 left out ✓." in lines
    found = json.loads((tmp_path / "c.json").read_text())
    data = found["data"]
    assert data["found"] == data["kept"] + data["rejected"] + sum(data["left_out"].values()) == 25
    assert data["left_out"] == {"skipped": 8, "no_image": 1}


def test_files_that_clients_have_to_convert_are_counted_by_format(clean):
    for number, file in enumerate(sorted(clean.glob("*/*.png"))[:7]):
        suffix = ".tif" if number else ".pcx"
        Image.open(file).convert("RGB").save(file.with_suffix(suffix))
        file.unlink()
    said = "7 of the 16 kept images are in files that the served model cannot decode"
    assert f"{said} (1 PCX, 6 TIFF); its clients must convert" in check(clean, *FEW)[1]


def test_data_is_refused_above_the_limit_of_rejected_images_only(faulty, tmp_path):
    code, text = check(faulty)
    assert code == 4 and "refused:" in text and "expected at most 10.0% of the images" in text
    assert (
        "(--html shows the images), or allow this share with --set gate.max_rejected_share=" in text
    )
    code, text = check(faulty, "--set", "gate.max_rejected_share=0.6", *FEW)
    assert code == 0 and "usable:" in text
    assert re.search(r"^rejected: \d+ cut short$", text, re.MULTILINE)


def test_classes_are_compared_with_the_data_that_the_output_folder_accepted(
    clean, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "imgpipe-out"
    schema = out / "schema" / "schema.pbtxt"
    schema.parent.mkdir(parents=True)
    schema.write_text('string_domain { name: "label" value: "paper" value: "rock" value: "well" }')
    given = Given(facts=Facts(data_key="data"))
    moved = hashlib.sha256((clean / "rock" / "0.png").read_bytes()).hexdigest()
    labels = ["paper"] * 9 + ["rock"] * 30 + ["well"] * 8
    hashes = [moved, *map(str, range(1, len(labels)))]
    columns = {"image_hash": hashes, "label": labels, "split": "train", "verdict": ""}
    accepted.write(schema, pd.DataFrame(columns), given)
    assert check(clean, *FEW, "--out", out, "--json", tmp_path / "c.json")[0] == 4
    found = json.loads((tmp_path / "c.json").read_text())
    said = [reason["title"] for reason in found["data_gate"]["reasons"]]
    assert said == ["shrunken class 'rock'", "lost class 'well'"]
    [finding] = [one for one in found["data"]["findings"] if one["reason"] == "since_accepted"]
    assert finding["sentence"].startswith(
        "since the accepted data: 1 image has another label (1 paper → rock), 15 new images"
    )
    assert finding["title"] in found["verdict"], "it changed without a review"
    assert check(clean, *FEW)[0] == 0, "the folder with the usual name may be of other images"


def test_a_class_folder_without_images_is_refused(clean, tmp_path):
    (clean / "scissors").mkdir()
    page = tmp_path / "c.html"
    code, text = check(clean, *FEW, "--html", page)
    assert code == 4 and "missing class 'scissors': expected images, found none" in text
    assert "missing class" in page.read_text() and "Data refused" in page.read_text()
    code, text = check(clean, *FEW, "--set", "gate.allow_missing_classes=true")
    assert code == 0 and "clean: 16 images" in text


def test_the_json_on_standard_output_and_the_page_hold_what_was_found(faulty, tmp_path):
    page = tmp_path / "page.html"
    result = ran("check", faulty, "--json", "-", "--html", page)
    json_formats.conform("check", json.loads(result.stdout))
    assert result.exit_code == 4, result.output
    found = json.loads(result.stdout)["data"]
    assert found["in"] == 3 * 8 + len(FAULTS) == found["kept"] + found["rejected"]
    assert {"fate", "reason", "title", "count", "remedies"} <= set(found["findings"][0])
    assert "rejected" in result.stderr
    html = page.read_text()
    for fault in FAULTS:
        assert fault.path in html or fault.reason != "truncated"
    assert html.count("data:image/webp;base64,") > 10
    assert "default-src 'none'" in html and "http://" not in html and "https://" not in html
    assert "<script" not in html and "Data refused" in html


def test_file_names_of_any_bytes_are_escaped(clean, tmp_path):
    for name in (b"\xff.jpg", b"\x1b[31mred.jpg", b"<b>[red].jpg"):
        Path(os.fsdecode(os.fsencode(clean) + b"/rock/" + name)).write_bytes(b"")
    code, text = check(clean, "--json", tmp_path / "c.json", "--html", tmp_path / "c.html")
    assert code == 4, text
    assert "\x1b[31m" not in text
    found = json.loads((tmp_path / "c.json").read_text())
    paths = {row["path"] for row in found["rejected"]}
    assert paths == {"rock/\udcff.jpg", "rock/\x1b[31mred.jpg", "rock/<b>[red].jpg"}
    assert "<b>[red]" not in (tmp_path / "c.html").read_text()


def test_the_inspection_cache_is_used_only_when_it_is_configured(clean, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    check(clean)
    assert sorted(tmp_path.iterdir()) == before
    check(clean, "--set", f"judge.store={tmp_path / 'store'}")
    assert any((tmp_path / "store" / "verdicts").iterdir())
    code, text = check(clean, "--set", f"judge.store={tmp_path / 'store'}", *FEW)
    assert code == 0 and "clean: 16 images" in text


def test_an_archive_is_unpacked_nowhere_that_stays(clean, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive = shutil.make_archive("photos", "zip", clean)
    code, text = check(archive, *FEW)
    assert code == 0 and "clean: 16 images" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean", "photos.zip"]


def test_a_file_that_vanishes_during_the_check_is_rejected_as_unreadable(clean, monkeypatch):
    real = data_check.inspect

    def vanishing(*args):
        (clean / "rock/0.png").unlink(
            missing_ok=True
        )  # deleted after the listing and before the inspection
        return real(*args)

    monkeypatch.setattr(data_check, "inspect", vanishing)
    config = configs.build({"data": {"source": str(clean)}})
    judged = data_check.judge(config, listed(config, ""), "")
    (reject,) = with_severity(judged.judgement.findings, "reject")
    assert (reject["path"], reject["reason"]) == ("rock/0.png", "unreadable")


def test_a_check_reads_the_cache_of_an_output_folder_and_loads_no_more_than_it_needs(
    clean, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    first = check(clean, "--json", "first.json", *FEW)
    assert not Path("imgpipe-out").exists()
    cache = Path("imgpipe-out/judge")
    cache.mkdir(parents=True)
    assert check(clean, *FEW) == first
    assert not [*cache.iterdir()], "nobody says that the folder is of these images"
    words = ["check", clean, "--out", "imgpipe-out", "--json", "again.json", "--html", "c.html"]
    whole, again = (python_program.imported("imgpipe", *words, *FEW)[0] for _ in range(2))
    assert "tensorflow" in whole and "tensorflow" not in again
    assert not {"tfx", "apache_beam", "tensorflow_data_validation", "grpc"} & (whole | again)
    found, found_again = (
        json.loads(Path(name).read_text()) for name in ("first.json", "again.json")
    )
    assert found_again == found | {"timings": found_again["timings"]}
