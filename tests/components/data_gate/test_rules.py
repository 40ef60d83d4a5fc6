"""The rules by which the data gate refuses data, and the schema that is accepted."""

import dataclasses

import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from imgpipe.components.data_gate import rules
from imgpipe.components.data_gate.rules import Requirements
from imgpipe.components.data_gate.schema import MIN_KNOWN_SHARE, accepted
from imgpipe.components.image_filter.placement.families import UNCLEAR
from imgpipe.models.finding import in_files, make_finding, said
from imgpipe.models.settings.data import GateSettings

LEAST = {"min_train": 10, "min_validation": 2}
REQUIRED = Requirements(GateSettings(**LEAST), ("cat", "dog"))


def summary(train=(20, 20), validation=(5, 5), test=(0, 0), rejected=0, reasons=None):
    """Return the filter's summary of kept images, as pairs (cat, dog), and rejected ones."""
    rows = {"train": train, "validation": validation, "test": test}
    by_split = {split: dict(zip(("cat", "dog"), row, strict=True)) for split, row in rows.items()}
    kept = sum(sum(row) for row in rows.values())
    return {
        "found": kept + rejected,
        "left_out": {},
        "in": kept + rejected,
        "kept": kept,
        "rejected": rejected,
        "by_reason": reasons or {},
        "by_split": by_split,
        "findings": [],
    }


def decide(found, required=REQUIRED, anomalies=None):
    return rules.reasons_against(found, anomalies or {}, required)


def anomaly(feature, description):
    found = anomalies_pb2.Anomalies()
    found.anomaly_info[feature].description = description
    return found


def test_a_class_with_too_few_images_is_named_with_its_split():
    (reason,) = decide(summary(validation=(5, 1)))
    assert said(reason) == (
        "too few 'dog' in validation: expected at least 2, found 1; "
        "add images of dog, leave dog out of the source, or accept fewer with "
        "--set gate.min_validation=1"
    )


def test_a_class_without_images_is_one_reason_unless_a_setting_allows_it():
    found = summary(train=(20, 0), validation=(5, 0))
    (reason,) = decide(found)
    assert reason["title"] == "missing class 'dog'"
    assert "gate.allow_missing_classes" in reason["remedies"][0]
    allowed = Requirements(GateSettings(min_train=10, allow_missing_classes=True), ("cat", "dog"))
    assert decide(found, allowed) == []


def test_a_class_whose_images_were_rejected_is_not_called_missing_beside_the_rejections():
    found = summary(train=(20, 0), validation=(5, 0), rejected=25, reasons={"label_conflict": 25})
    (reason,) = decide(found)
    assert reason["title"] == "rejected share"


def test_the_share_of_rejected_images_is_limited_by_a_setting():
    assert decide(summary(rejected=5, reasons={"truncated": 5})) == []
    (reason,) = decide(summary(rejected=10, reasons={"truncated": 10}))
    assert "expected at most 10.0% of the images" in reason["sentence"]
    assert reason["sentence"].endswith("found 16.7% (10 of 60: 10 cut short)")
    assert reason["remedies"][0].endswith(
        "or allow this share with --set gate.max_rejected_share=0.17"
    )
    assert (
        decide(
            summary(rejected=10, reasons={"truncated": 10}),
            dataclasses.replace(REQUIRED, settings=GateSettings(max_rejected_share=0.17, **LEAST)),
        )
        == []
    ), "the setting that is proposed suffices"


def test_too_many_rejected_images_are_refused_with_what_to_do_about_most_of_them():
    found = summary(rejected=10, reasons={"label_conflict": 10})
    about = make_finding("label_conflict", "", ["keep each in one class"], count=10)
    found["findings"] = [in_files("rejected", about, [])]
    (reason,) = decide(found)
    first, second = reason["remedies"]
    assert first == "keep each in one class"
    assert second.startswith("see the reason for each file")


def test_data_without_any_good_image_is_refused():
    empty = summary((0, 0), (0, 0), rejected=3, reasons={"zero_byte": 3})
    (reason,) = decide(empty)
    assert said(reason).startswith("no images: expected at least one good image, found 3 images")


def test_anomalies_name_the_feature_the_expectation_and_the_remedy():
    found = {"train": anomaly("format", "Examples contain values missing from the schema: BMP. ")}
    (reason,) = decide(summary(), anomalies=found)
    assert said(reason) == (
        "anomaly 'format' in train: expected what the schema allows, found Examples contain values "
        "missing from the schema: BMP; to accept it, run again with --accept"
    )


def test_new_classes_are_named_once_for_all_splits():
    found = anomaly("label", "Examples contain values missing from the schema: cat (~50%), dog. ")
    kind = found.anomaly_info["label"].ENUM_TYPE_UNEXPECTED_STRING_VALUES
    found.anomaly_info["label"].reason.add(type=kind)
    known = dataclasses.replace(REQUIRED, accepted={"big, grey cat": None})
    new, lost = decide(summary(), known, {"train": found, "validation": found})
    assert said(new) == (
        "new class: expected the classes of the accepted data, found cat, dog; to accept it, run "
        "again with --accept"
    )
    assert said(lost) == (
        "lost class 'big, grey cat': expected images as in the last accepted data, found none; "
        "restore its images; to accept it, run again with --accept"
    )


def changed(before, now, allowed=False):
    """Return kinds and classes by which numbers of images differ from accepted ones."""
    required = Requirements(GateSettings(allow_missing_classes=allowed), tuple(now), before)
    found = {"by_split": {"train": now, "test": dict.fromkeys(now, 0)}}
    return [
        (reason["reason"], reason["title"].partition("'")[2].removesuffix("'"))
        for reason in rules.changed_classes(found, required)
    ]


FLOWERS = {"daisy": 85, "rose": 100, "tulip": 97}


@pytest.mark.parametrize(
    "now",
    [
        FLOWERS,
        FLOWERS | {"daisy": 79, "tulip": 50},  # some removed
        FLOWERS | {"daisy": 500},  # added to one class
        FLOWERS | {"rose": 0},  # its folder is empty, which is another reason
    ],
)
def test_images_that_come_and_go_change_no_class(now):
    assert changed(FLOWERS, now) == []
    assert changed({"daisy": 8, "rose": 8}, {"daisy": 5, "rose": 8}) == [], "chance"
    assert changed({}, now) == changed(dict.fromkeys(now), now) == [], "the numbers are not known"


@pytest.mark.parametrize(
    ("now", "reasons"),
    [
        ({"daisy": 85, "rose": 100}, [("lost_class", "tulip")]),
        ({**FLOWERS, "rose": 20}, [("shrunken_class", "rose")]),
        ({**FLOWERS, "lily": 900}, [("new_class", "")]),
        ({"daisy": 85, "rose": 100, "oak": 9}, [("new_class", ""), ("lost_class", "tulip")]),
    ],
)
def test_a_class_that_is_gone_or_much_smaller_is_named(now, reasons):
    assert changed(FLOWERS, now) == reasons
    assert changed(FLOWERS, FLOWERS | {"rose": 0}, allowed=True) == [("lost_class", "rose")]


def test_a_shrunken_class_has_its_numbers_before_and_now():
    required = Requirements(GateSettings(), ("cat", "dog"), {"cat": 100, "dog": 100})
    (reason,) = rules.changed_classes(summary(train=(15, 80), validation=(5, 20)), required)
    assert said(reason) == (
        "shrunken class 'cat': expected 100 images as in the last accepted data, "
        "found 20; restore its images; to accept it, run again with --accept"
    )


def test_anomalies_of_an_empty_split_are_ignored():
    assert decide(summary(), anomalies={"test": anomaly("label", "Column dropped")}) == []


def test_many_classes_with_too_few_images_are_one_line_for_each_split():
    names = tuple(f"c{n:04}" for n in range(5000))
    by_split = {split: dict.fromkeys(names, 2) for split in ("train", "validation", "test")}
    by_split["validation"]["c4321"] = 1
    counts = {"in": 30_000, "kept": 29_999, "rejected": 1, "by_reason": {}}
    found = {**counts, "by_split": by_split, "findings": []}
    reasons = decide(found, Requirements(GateSettings(min_train=10, min_validation=3), names))
    _, train, validation = rules.refusal(reasons).splitlines()
    assert "found fewer of 5,000 classes: 'c0000' (2)" in train and "and 4,995 more;" in train
    assert train.endswith("or accept fewer with --set gate.min_train=2")
    assert "classes: 'c4321' (1), 'c0000' (2)" in validation, "the one with the fewest comes first"


def test_several_classes_without_images_are_one_reason():
    found = summary(train=(0, 0), validation=(0, 0))
    found["kept"] = 1  # an image of another class
    required = Requirements(GateSettings(min_train=10), ("cat", "cow", "dog"))
    (reason,) = rules.too_few(found, required)
    assert said(reason) == (
        "missing class: expected images of each class, found none of 3 classes: 'cat', 'cow', "
        "'dog'; add images, remove their folders, or accept classes without images "
        "with --set gate.allow_missing_classes=true"
    )


def test_a_refusal_with_thousands_of_reasons_is_a_few_lines():
    before = {f"c{n:04}": 10 for n in range(5000)}
    required = Requirements(GateSettings(), ("cat", "dog"), before)
    text = rules.refusal(rules.changed_classes(summary(), required))
    assert text.startswith("the data was refused for 5,001 reasons:\n- new class")
    assert text.endswith("lost class: 4,995 more such reasons")
    assert text.count("\n") == 7 and len(text) < 1500


def test_accepted_schema_is_exact_on_classes_and_lenient_on_formats():
    inferred = schema_pb2.Schema()
    inferred.string_domain.add(name="label", value=["cat"])
    inferred.string_domain.add(name="format", value=["JPEG"])
    inferred.feature.add(name="label", domain="label")
    inferred.feature.add(name="format", domain="format")
    inferred.feature.add(name="width").int_domain.max = 640
    schema = accepted(inferred, ("cat", "dog"))
    label, kind, width = schema.feature
    assert {d.name: list(d.value) for d in schema.string_domain} == {
        "label": ["cat", "dog"],
        "format": ["JPEG"],
    }
    assert kind.distribution_constraints.min_domain_mass == MIN_KNOWN_SHARE
    assert not label.HasField("distribution_constraints")
    assert width.WhichOneof("domain_info") is None and width.presence.min_fraction == 1.0
    assert inferred.feature[2].int_domain.max == 640


def test_families_that_a_person_has_to_name_are_refused():
    question = make_finding(UNCLEAR, "two parts", ["--set data.group_pattern=x"], decides=True)
    found = {**summary(), "findings": [question, make_finding("families", "z")]}
    assert decide(found) == [question]
