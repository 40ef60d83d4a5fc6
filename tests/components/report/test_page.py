"""The page of the report: its text, what it says if parts are missing, and that it is safe."""

import re

import pytest

from imgpipe.components.data_gate.rules import DataDecision
from imgpipe.components.image_filter.summary import Families
from imgpipe.components.report import page
from imgpipe.components.report.blocks import Section
from imgpipe.components.report.sections import SECTIONS, images
from imgpipe.components.run_record import verdict
from imgpipe.components.run_record.metrics import Remaining
from imgpipe.components.run_record.result import new
from imgpipe.models.features.bank import JudgedFeatures
from imgpipe.models.finding import Finding, in_files, make_finding
from imgpipe.models.training.history import FineTuned, Tried
from tests.answer_tables import figures
from tests.declared import made
from tests.pages import Everywhere, read, render
from tests.run_results import data_summary, in_file, jpeg, reject, result, solved

PICTURES = ["by_class", "more_images", "taken_for", "unsure", "gallery", "map"]


TIMINGS = {
    "total_s": 61.0,
    "import_s": 12.0,
    "components": {"FeatureBank": 30.0, "ImageTrainer": 9.5, "SchemaGen": 0.5},
    "cached": ["SchemaGen"],
}


def ids(parsed):
    return [i for i in parsed.ids if i in {section.id for section in SECTIONS}]


def whole(classes=("paper", "rock", "scissors"), **values):
    """Return a result with all sections."""
    return result(classes, [reject(1)], **values) | {"training": solved()}


def test_the_page_shows_pictures_then_what_is_doubtful_and_closes_all_figures():
    found = whole() | {"timings": TIMINGS}
    text = render(found, {})
    parsed = read(found)
    assert ids(parsed) == [section.id for section in SECTIONS]
    order = ["verdict", "next_steps", *PICTURES, "unlike_images", "doubtful_labels", "rejected"]
    assert ids(parsed)[: len(order)] == order
    assert '<details id="numbers" class="numbers">' in text
    numbers = text.index('id="numbers"')
    for section in SECTIONS:
        assert (text.index(f'<section id="{section.id}"') > numbers) == section.numbers


def test_a_page_of_nine_classes_with_many_findings_has_fewer_than_900_words():
    classes = [f"class {number}" for number in range(9)]
    found = result(classes, [reject(i) for i in range(12)], 0.7)
    found |= {"training": solved(), "timings": TIMINGS}
    doubtful = found["suspects"]["rows"][0]
    found["suspects"]["rows"] = [doubtful | {"wrong": 1 - i / 50} for i in range(48)]
    text = render(found, Everywhere())
    body, _, _ = text[text.index("<body>") :].partition('<details id="numbers"')
    hidden = r"<svg.*?</svg>|<span popover.*?</code>|<figure popover.*?</figure>"
    seen = re.sub(rf"{hidden}|<[^>]+>", " ", body, flags=re.DOTALL)  # without a click
    assert 300 < len(seen.split()) < 900


def test_where_folds_decide_the_pictures_and_the_head_are_of_the_folds():
    found = result(accuracy=0.8)
    every = found["metrics"]["folds"]
    text = render(found, {}).partition('<details id="numbers"')[0]
    assert f"{every['correct']} of 150" in text
    assert f"{150 - every['correct']} of 150 images are taken for another class" in text
    for row in every["per_class"].values():
        assert f"{row['correct']} of {row['count']}" in text
    assert "of 60" not in text and "cross-validation" in text


def test_the_bars_begin_with_the_lowest_class_and_show_the_threshold():
    found = result()
    answers = (("paper", 40, 39), ("rock", 32, 17), ("scissors", 0, 0))
    found["metrics"]["folds"]["per_class"] = {
        name: figures(right, count) for name, count, right in answers
    }
    text = render(found, {})
    bars = text[text.index('<section id="by_class"') : text.index('<section id="taken_for"')]
    assert bars.index("17 of 32") < bars.index("39 of 40") < bars.index("all classes")
    assert "width:53.1%" in bars and "left:90.0%" in bars
    assert "scissors" not in bars, "a class without an image has no share"


def test_the_number_of_images_is_said_only_where_the_curve_says_it():
    found = whole()
    found["gate"] |= {"failed": ["threshold"]}
    assert re.search(
        r"About [\d,]+ more photographs, [\d,]+ of each class, would reach 0\.9\.", read(found).text
    )
    found["training"]["solution"]["gain_error"] = 0.08
    assert "would reach" not in read(found).text
    assert "would reach" not in read(whole()).text, "the threshold was reached"


def test_the_features_that_were_tried_and_the_cost_of_larger_images_are_said():
    found = whole()
    tried = (("class_token", 224), ("tokens", 384))
    found["bank"] |= {"features": "tokens", "image_size": 384}
    judged = [
        made(JudgedFeatures, features=kind, image_size=size, accuracy=0.9) for kind, size in tried
    ]
    decided = {"time": "2026-01-31 14:05:59", "images": 1234, "tried": judged}
    found["bank"]["decision"] = decided
    found["training"]["learned"] = {"train": 123, "validation": 40}
    text = read(found).text
    for words in (
        "“class_token” at 224 pixels 0.900, “tokens” at 384 pixels 0.900. “class_token” is the",
        "“tokens” is the class token and the mean of the last feature map",
        "“tokens” at 384 pixels were chosen for the head, on 2026-01-31 14:05:59 with 1,234",
        "For images of 384 instead of 224 pixels, the backbone computes 2.9 times as much",
        "images of train and validation: each image was answered",
    ):
        assert words in text
    assert "“covariance” is" not in text


def test_a_cell_shows_three_images_and_a_row_of_the_gallery_frames_the_least_typical():
    page = result(accuracy=0.4)
    parsed = read(page, images=Everywhere())
    html = render(page, Everywhere())
    matrix = html.partition('id="taken_for"')[2].partition("</section>")[0]
    assert matrix.count(': labelled paper, answered rock"><img') == 3
    least = [alt for alt in parsed.alts if "least like" in alt]
    assert least == [
        f"{name}/{i}.jpg: labelled {name}, least like the others of its class"
        for name in ("paper", "rock", "scissors")
        for i in (9, 10, 11)
    ]


def test_the_sections_with_figures_have_their_content():
    parsed = read(result(rejected=[reject(1)]) | {"timings": TIMINGS})
    for words in (
        "181 found = 180 kept + 1 rejected ✓",
        "the dot marks the best epoch, 7",
        "had not improved for course.patience epochs",
        "Location /work/out/model/4",
        "imgpipe serve /work/out --model rps",
        "imgpipe predict photo.jpg --server localhost:8500 --model rps",
        "1 of 180 labels is doubtful: a model that has not seen the image answers another class",
        "2 other images are mistakes of such a model, and probably labelled right.",
        "2 of 2 passed",
        "✕ It does not.",
        "are 0.920 to 0.975, with a standard deviation of 0.021",
        "7 images are like others only by way of near-duplicates that were rejected",
        "format PNG 20 0.600 weaker 0.387–0.781",
        "Date 2026-01-31 14:05:59 +0100",
        "Seeds split 0, train 7",
        "Packages python 3.11.9, keras 3.15.0",
        'data.source = "/photos" train.seed = 7',
    ):
        assert words in parsed.text, words


def test_the_page_of_a_refused_run_names_the_reasons_and_has_no_empty_section():
    sentence = "too few 'rock' in validation: expected at least 3, seen 1; add images of rock"
    reason = made(Finding, reason="too_few", sentence=sentence)
    error = f"the data was refused for 1 reason:\n- {sentence}"
    parsed = read(
        new(
            status="refused",
            verdict=f"data refused: {error}",
            error=error,
            failed="DataGate",
            classes=result()["classes"],
            data=result()["data"],
            data_gate=made(DataDecision, blessed=False, reasons=[reason]),
            timings=TIMINGS,
        )
    )
    assert "Data refused" in parsed.text
    assert parsed.text.count(sentence) == 1
    assert ids(parsed) == ["verdict", "rejected", "data"]


def test_a_run_that_failed_or_was_interrupted_has_a_page():
    found = new(classes=["cat", "dog"], log="/l.log")
    cause = "interrupted by Ctrl-C. Finished work is kept, and a new run continues from it."
    text = read(verdict.ended(found, cause, "ImageTrainer", interrupted=True)).text
    assert "Interrupted" in text and "stopped in Train the model · ImageTrainer ." in text
    assert "ailed" not in text
    parsed = read(verdict.ended(found, "no such folder"))
    assert "Failed in start-up: no such folder" in parsed.text
    assert "/l.log" in parsed.text


@pytest.mark.parametrize("name", sorted(set(result()) - {"status", "classes", "metrics"}))
def test_any_part_of_the_result_may_be_missing(name):
    read(result() | {"timings": TIMINGS} | {name: new()[name]})


def with_parts(**parts):
    """Return the result of a run, in which some parts have other entries."""
    found = result()
    return found | {name: found[name] | more for name, more in parts.items()}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (result(), "None of 180 files was rejected."),
        (with_parts(data={"kept": 179}), "do not add up"),
        (
            result()
            | {
                "data": data_summary(
                    repaired=3,
                    findings=[in_file("repaired", "transcoded", "a/1.tif", count=3)],
                    overrides={"applied": {}, "relabelled_test": 0, "unknown": 1},
                )
            },
            "3 files were repaired (3 stored as PNG); the original files are unchanged. "
            "1 override does not match any file: the image was changed or removed. "
            "delete the entry from the overrides file, or update its hash",
        ),
    ],
)
def test_a_fact_is_said_in_a_sentence(found, words):
    assert words in read(found).text


def test_the_accuracy_to_believe_where_families_are_divided_is_said_once():
    of_splits = {"train": 1, "validation": 0, "test": 8}
    families = made(Families, families=2, images=9, divided=of_splits, independent=of_splits)
    found = result() | {"data": data_summary(families=families)}
    found["metrics"]["test"] |= {**figures(11, 22), "seen": figures(8, 8)}
    text = read(verdict.ended(found)).text
    said = "8 images of test are not counted, because train has images of their families"
    assert said in text and text.count("images of their families") == 1
    assert "accuracy 0.500 (11 of 22 images of families that train does not have, 95 %" in text
    assert "divide families" not in text


def test_a_warning_shows_its_first_images():
    hashes = [f"{n:064x}" for n in range(9)]
    examples = [
        {"path": f"cat/{n}.jpg", "detail": f"sharpness 0.{n}", "image_hash": hashes[n]}
        for n in range(9)
    ]
    warning = in_files("warned", make_finding("blurry", "", title="blurred", count=40), examples)
    found = result() | {"data": data_summary(findings=[warning])}
    parsed = read(found, images=dict.fromkeys(hashes, jpeg()))
    assert len([alt for alt in parsed.alts if alt.endswith(": blurred")]) == images.IMAGES
    assert "40 blurred" in parsed.text and "sharpness 0.8" in parsed.text


def test_hostile_names_are_escaped():
    odd = b"\xff\xfe.jpg".decode("utf-8", "surrogateescape")
    classes = [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "猫",
        "x" * 300,
        "$\\alpha$ {{ 7*7 }}",
    ]
    bad = [
        reject(1, path=odd, label=classes[0], reason="<b>bold</b>", override="</table>&amp;"),
        reject(2, path="a\u202egpj.exe", detail="nul\0bell\a"),
    ]
    found = result(classes, bad)
    found["name"] = "</title><script>"
    found["source"] = "javascript:alert(1)"
    found["push"]["path"] = "/out/$(reboot)/4"
    found |= {"status": "failed", "verdict": "<script>1</script>", "error": "<script>1</script>"}
    parsed = read(found | {"log": "<i>", "failed": "<u>"})
    assert {"b", "i", "u"}.isdisjoint(parsed.tags)
    assert "<script>alert(1)</script>" in parsed.text
    assert "\\xff\\xfe.jpg" in parsed.text
    assert "a\\u202egpj.exe" in parsed.text
    assert "nul\\x00bell\\x07" in parsed.text
    assert "$\\alpha$ {{ 7*7 }}" in parsed.text
    assert "imgpipe serve '/out/$(reboot)'" in parsed.text


def test_rejects_are_grouped_with_image_detail_and_override():
    bad = [reject(1), reject(2), reject(3, "animated", override="add it to judge.skip")]
    parsed = read(result(rejected=bad), images={"bad1": jpeg(), "bad2": b"no image"})
    assert "rock/bad-1.jpg: too small" in parsed.alts
    assert "too small 2 files" in parsed.text
    assert "1 x 4 pixels, the shorter side is under 16" in parsed.text
    assert parsed.text.count("What to do: lower judge.min_side") == 1
    assert "no image" in parsed.text


def test_of_thousands_of_rejected_files_the_page_shows_200_and_says_so():
    bad = [reject(i) for i in range(4990)] + [reject(i, "animated") for i in range(10)]
    text = render(result(rejected=bad), {"bad1": jpeg()})
    assert "200 of 5,000 are shown" in text
    assert "4,990 files, 190 shown" in text
    assert text.count('<span class="path">rock/bad-') == images.LIMIT
    assert len(text) < 400_000
    shown = images.shown(bad, 20)
    assert len(shown) == 20 and {row["reason"] for row in shown} == {"too_small", "animated"}


def test_a_label_that_is_probably_right_is_not_among_the_doubtful_ones():
    found = result()
    row = found["suspects"]["rows"][0]
    found["suspects"]["rows"] = [row, row | {"wrong": 0.1, "path": "rock/hard.jpg"}]
    section = render(found, {}).partition('id="doubtful_labels"')[2].partition("</section>")[0]
    assert "rock/9.jpg" in section and "rock/hard.jpg" not in section


def test_of_many_classes_those_that_are_confused_most_are_shown():
    found = result([f"class {i}" for i in range(250)], accuracy=0.5)
    parsed = read(found)
    shown = len(found["answers"]["matrix"])
    assert 11 <= shown <= 12
    assert f"The {shown} of 250 classes that are confused most." in parsed.text
    assert "The 30 lowest of 150 classes." in parsed.text
    assert f"{60 - shown} more classes" in parsed.text
    assert "190 classes have no row." in parsed.text
    assert "other classes" in parsed.text
    assert "The classes with the lowest F1 on folds: 30 of 250 classes are shown;" in parsed.text


def broken(_):
    """Build no section."""
    raise ValueError("a figure is missing")


@pytest.mark.parametrize(
    ("build", "error"),
    [(broken, "ValueError: a figure is missing"), (lambda _: [object()], "UndefinedError: ")],
    ids=["a section", "a block"],
)
def test_what_cannot_be_drawn_leaves_the_others_on_the_page(monkeypatch, build, error):
    monkeypatch.setattr(page, "SECTIONS", (*SECTIONS, Section("broken", "Broken", build)))
    text = render(result(), {})
    assert f"Could not be drawn ({error}" in text
    assert "Serving checks" in text


def test_the_networks_that_were_tried_and_the_stages_are_listed():
    found = result()
    head = made(Tried, what="the head", seconds=8.0, kept=True, accuracy=0.898)
    gain = {"gain": 0.0967, "standard_error": 0.015, "seconds": 150.0, "accuracy": 0.995}
    stage = {key: found["training"][key] for key in ("epochs", "best_epoch", "stopped")}
    found["training"] |= {
        "fine_tune": made(FineTuned, **stage),
        "search": [
            head,
            made(Tried, what="layers above block8", kept=True, **gain),
            made(Tried, what="layers above block3", failure="diverged"),
        ],
        "search_ended": make_finding("all", "Everything was tried"),
    }
    text = read(found).text
    for words in (
        "layers above block8 0.995 +0.097 0.015 2 min 30 s yes",
        "layers above block3 diverged",
        "Everything was tried.",
        "Validation accuracy in training Gain",
        "had not improved for course.fine_tune.patience epochs",
        "The best epoch has the lowest validation loss after calibration",
    ):
        assert words in text
    found["training"]["search"] = [
        {**one, "judged_by": "folds"} for one in found["training"]["search"]
    ]
    text = read(found).text
    assert "in cross-validation over train and validation, which has few images, by more" in text
    assert "Cross-validation accuracy Gain" in text


def test_the_page_of_a_run_names_the_commands_that_show_all_images_of_a_cell_a_class_and_a_kind():
    found = result(rejected=[reject(1)], accuracy=0.4)
    text = read(found).text
    for what in ("rejected", "doubtful", "paper", "paper:rock"):
        assert f"imgpipe review /work/out/runs/20260131-140559 --show {what} " in text, what
    without_run = read(found | {"folder": ""}).text
    assert "--show paper" not in without_run and "--show rejected" not in without_run


def test_the_sentence_of_unsure_answers_promises_no_more_than_its_table():
    found = result()
    rows = [(0.0, 200, 180), (0.7, 191, 190)]
    found["answers"]["remaining"] = [Remaining(below=b, answered=n, right=r) for b, n, r in rows]
    assert "To answer 95 % of images with 99 % right, ask for 0.70" in read(found).text
