"""Tests that Plan determines in a task what the local runner knows before it builds the graph."""

import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgpipe.components.data_gate import accepted
from imgpipe.components.data_gate.settings import GatePlan
from imgpipe.components.feature_bank.settings import BankPlan
from imgpipe.components.image_evaluator.settings import EvaluatorPlan
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.components.image_filter.judge.settings import FilterPlan
from imgpipe.components.model_pusher import versions
from imgpipe.components.model_pusher.settings import PusherPlan
from imgpipe.components.run_record.run_folder import CONFIG
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration.sections import DECISIONS
from imgpipe.pipeline.definition import plan as plans
from imgpipe.pipeline.definition.source import usable
from tests.images import class_folders


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with one image of each of two classes."""
    sizes = {"a": (40, 40), "b": (40, 41)}
    drawn = {label: [Image.new("RGB", size)] for label, size in sizes.items()}
    return class_folders(tmp_path / "photos", drawn)


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> configs.Config:
    return configs.build({"data": {"source": str(photos)}, "run": {"out": str(tmp_path / "out")}})


def _planned(config: configs.Config, **given: Any) -> dict[str, Any]:
    """Return the fields that Plan determines, with some parameters of the pipeline replaced."""
    determined = plans.plan(plans.to_json(config), {**plans.settings(config), **given})
    written = tomllib.loads(determined.pop(CONFIG))  # with which the run can be repeated
    assert written["evaluate"]["threshold"] == given.get("threshold", config.evaluate.threshold)
    return determined


def test_plan_determines_what_the_local_runner_knows(config: configs.Config):
    known = plans.make(config, usable(config).hashed())
    assert _planned(config) == asdict(known) == json.loads(known.to_json())


@pytest.mark.parametrize(
    ("published", "given", "asked"),
    [
        (None, {}, 0.9),
        (0.87, {}, 0.87),
        (0, {}, 0),
        (0.87, {"evaluate.threshold": 0.9}, 0.9),
        (0.87, {"evaluate.threshold": 0.5}, 0.5),
        (0.9, {}, 0.9),
    ],
)
def test_the_threshold_of_the_newest_version_stays_unless_another_is_given(
    photos: Path, tmp_path: Path, published: float | None, given: dict[str, float], asked: float
):
    base = tmp_path / "out" / "model"
    export = tmp_path / "export"
    export.mkdir()
    for number, threshold in enumerate((0.95, published) if published is not None else ()):
        (export / "saved_model.pb").write_text(f"{number}")
        versions.publish(base, {"": export}, {"threshold": threshold})
    tree = {"data": {"source": str(photos)}, "run": {"out": str(tmp_path / "out")}}
    given_config = configs.build(tree, given).with_absolute_paths()
    config, findings = plans.with_kept_threshold(given_config)
    assert config.evaluate.threshold == asked
    sentences = [finding["sentence"] for finding in findings]
    said = (
        f"the accuracy that is asked for, {asked:g}, is that of version 2 in this output folder; "
        "--set evaluate.threshold=0.9 asks for the usual one"
    )
    assert sentences == ([said] if not given and asked != 0.9 else [])
    plan = plans.make(config, usable(config).hashed())
    assert EvaluatorPlan.from_json(plan.evaluator).settings.threshold == asked
    assert PusherPlan.from_json(plan.pusher).facts["threshold"] == asked


def test_parameters_of_a_run_change_what_depends_on_them(config: configs.Config):
    before = _planned(config)
    after = _planned(config, threshold=0.75, epochs=3, image_size=64)
    assert json.loads(after["training"])["model"]["epochs"] == 3
    assert BankPlan.from_json(after["bank"]).network.image_size == 64
    assert json.loads(after["report"])["changed"]["evaluate.threshold"] == 0.75
    keys = [PusherPlan.from_json(values["pusher"]).facts["run_key"] for values in (before, after)]
    assert keys[0] != keys[1]
    assert _changed(before, after) == {"bank", "training", "evaluator", "pusher", "report"}


def _changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the names of the fields of two plans that differ."""
    return {name for name in before if before[name] != after[name]}


_SHOWN = {"report"}
_RESULT = {"pusher", *_SHOWN}  # the key of the run is in the manifest
_READ = {"examples", *_RESULT}
_CHECKED = {"image_filter", "gate", *_RESULT}
_FEATURES = {"bank", "training", *_RESULT}


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"data.classes": ("a", "b")}, _READ),
        ({"data.class_level": 1}, _READ),
        ({"data.skip": ("masks",)}, _READ),
        ({"data.split_folders": ("rome=test",)}, _READ),
        ({"data.group_pattern": "(.)"}, {"fingerprint", "gate", *_READ}),
        # Where files lie does not change the result.
        ({"data.root": "/elsewhere"}, {"examples", *_SHOWN}),
        ({"data.follow_links": True}, {"examples", *_SHOWN}),
        ({"split.seed": 2}, {"gate", *_READ}),
        ({"split.test": 0.2}, {"gate", *_READ}),
        ({"judge.min_side": 2}, _CHECKED),
        ({"judge.severity.dark": "ignore"}, _CHECKED),
        ({"judge.threshold.near_duplicate": 1}, _CHECKED),
        ({"judge.pixel_limit": 2}, {"examples", *_CHECKED}),
        ({"judge.store": "/elsewhere"}, {"examples"}),
        ({"gate.min_train": 2}, {"gate", *_RESULT}),
        ({"gate.drift": "ignore"}, {"gate", *_RESULT}),
        ({"gate.min_validation": 2}, {"gate", *_READ}),
        ({"course.views.count": 1}, _FEATURES),
        ({"bank.budget": 1}, {"bank", *_RESULT}),
        ({"bank.store": "/elsewhere"}, {"bank"}),
        ({"model.backbone": "mobilenet_v2", "model.weights": "none"}, _FEATURES),
        ({"model.image_size": 64}, _FEATURES),
        # The features are chosen for the head, unless the setting names them.
        ({"train.seed": 2}, _FEATURES),
        ({"model.features": "average"}, _FEATURES),
        ({"train.minutes": 1}, _FEATURES),
        ({"course.fine_tune.epochs": 2}, _FEATURES),
        ({"evaluate.threshold": 0.5}, {"evaluator", *_RESULT}),
        ({"evaluate.tfma": True}, {"evaluator", *_SHOWN}),
        ({"evaluate.max_drop": 0.5}, {"evaluator", *_RESULT}),
        ({"evaluate.cross_validate": 2}, {"evaluator", *_FEATURES}),
        ({"push.keep": 2}, _RESULT),
        ({"run.keep": 1}, _SHOWN),
        ({"run.name": "hands"}, _FEATURES),
        ({"run.out": "/elsewhere"}, {"examples", "gate", "bank", "evaluator", "pusher"}),
        ({"beam.runner": "processes"}, _SHOWN),
    ],
)
def test_a_setting_invalidates_the_components_that_depend_on_it(
    config: configs.Config, settings: dict[str, Any], fields: set[str]
):
    assert (
        _changed(_planned(config), _planned(configs.build(config.model_dump(), settings))) == fields
    )


def test_settings_of_a_head_do_not_invalidate_features_that_are_not_chosen_for_it(
    config: configs.Config,
):
    config = configs.build(config.model_dump(), {"model.features": "average"})
    after = _planned(configs.build(config.model_dump(), {"train.seed": 2}))
    assert _changed(_planned(config), after) == {"training", *_RESULT}


def test_new_images_change_the_fingerprint(config: configs.Config, photos: Path):
    before = _planned(config)
    Image.new("RGB", (50, 50)).save(photos / "a" / "2.png")
    after = _planned(config)
    assert after["fingerprint"] != before["fingerprint"]
    assert _changed(before, after) == {"fingerprint", "examples", "gate", *_RESULT}


def test_a_wrong_parameter_of_a_run_is_named(config: configs.Config):
    with pytest.raises(ConfigError, match=r"evaluate\.threshold: .* Received: 2") as raised:
        _planned(config, threshold=2.0)
    assert str(raised.value).startswith("the parameters of the pipeline: ")


def test_the_accepted_schema_is_part_of_the_plan(config: configs.Config):
    assert _planned(config)["accepted_schema"] == ""
    config.places.schema.parent.mkdir(parents=True)
    text = 'feature { name: "label" }\n'
    config.places.schema.write_text(text)
    before = _planned(config)
    gate = GatePlan.from_json(before["gate"])
    assert before["accepted_schema"] == gate.judged_by["accepted_schema"] == text
    assert gate.judged_by["accept_changes"] == 0
    judged_by: accepted.AcceptedState = {**gate.judged_by, "accept_changes": 1}
    accepted.write(config.places.schema, gate.data_key, {"a": 1, "b": 1}, judged_by)
    after = _planned(config)
    assert GatePlan.from_json(after["gate"]) == gate.model_copy(update={"judged_by": judged_by})
    assert EvaluatorPlan.from_json(after["evaluator"]).accept_changes == 1
    assert _changed(before, after) == {"gate", "evaluator"}, "what was accepted stays so"


def _decided(config: configs.Config, *decisions: Override, place: str = DECISIONS) -> plans.Plan:
    """Return the plan of a run with a file of decisions about single images."""
    file = config.places.out / place
    file.parent.mkdir(exist_ok=True)
    file.write_text(overrides.to_toml(decisions), encoding="utf-8")
    named = configs.build(
        config.model_dump(), {"judge.overrides": "" if place == DECISIONS else str(file)}
    )
    return plans.make(named, usable(named).hashed())


def test_a_decision_about_an_image_changes_the_run_key_but_its_note_does_not(
    config: configs.Config,
):
    def key(plan: plans.Plan) -> str:
        return str(PusherPlan.from_json(plan.pusher).facts["run_key"])

    accept = Override("0" * 64, "accept")
    none, decided = _decided(config), _decided(config, accept)
    assert FilterPlan.from_json(none.image_filter).overrides == ()
    assert FilterPlan.from_json(decided.image_filter).overrides == (accept,)
    assert key(none) != key(decided)
    noted = Override("0" * 64, "accept", note="seen", path="a/1.jpg")
    moved = _decided(config, noted, place="other.toml")
    assert key(moved) == key(decided) and moved.image_filter == decided.image_filter
    with pytest.raises(ConfigError, match="relabels 1 image to 'c', which is not a class"):
        _decided(config, Override("0" * 64, "relabel", "c"))
