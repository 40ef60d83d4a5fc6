"""Tests that Plan determines in a task what the local runner knows before it builds the graph."""

import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from imgpipe.components.data_gate import accepted
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.model_pusher import versions
from imgpipe.components.run_record.run_folder import CONFIG
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.given import Given
from imgpipe.models.settings.override import Override
from imgpipe.models.settings.places import DECISIONS
from imgpipe.models.settings.section import changed
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.configuration import config as configs
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
def config(photos: Path, tmp_path: Path) -> Settings:
    return configs.build({"data": {"source": str(photos)}, "run": {"out": str(tmp_path / "out")}})


def _planned(config: Settings, **given: Any) -> dict[str, Any]:
    """Return the fields that Plan determines, with some parameters of the pipeline replaced."""
    determined = plans.plan(plans.to_json(config), {**plans.run_settings(config), **given})
    written = tomllib.loads(determined.pop(CONFIG))  # with which the run can be repeated
    assert written["evaluate"]["threshold"] == given.get("threshold", config.evaluate.threshold)
    return determined


def test_plan_determines_what_the_local_runner_knows(config: Settings):
    known = plans.make(config, usable(config).hashed())
    assert _planned(config) == known.texts


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
    given_config = configs.absolute(configs.build(tree, given))
    config, findings = plans.with_kept_threshold(given_config)
    assert config.evaluate.threshold == asked
    sentences = [finding["sentence"] for finding in findings]
    said = (
        f"the accuracy that is asked for, {asked:g}, is that of version 2 in this output folder; "
        "--set evaluate.threshold=0.9 asks for the usual one"
    )
    assert sentences == ([said] if not given and asked != 0.9 else [])
    plan = plans.make(config, usable(config).hashed())
    for component in ("ImageEvaluator", "ModelPusher"):
        assert Given.read(plan.texts[component]).settings.evaluate.threshold == asked


def test_parameters_of_a_run_change_what_depends_on_them(config: Settings):
    before = _planned(config)
    after = _planned(config, threshold=0.75, epochs=3, image_size=64)
    assert Given.read(after["ImageTrainer"]).settings.course.epochs == 3
    assert Given.read(after["FeatureBank"]).settings.size == 64
    assert changed(Given.read(after["Report"]).settings)["evaluate.threshold"] == 0.75
    keys = [Given.read(texts["ModelPusher"]).facts.run_key for texts in (before, after)]
    assert keys[0] != keys[1]
    assert _changed(before, after) == {
        *("FeatureBank", "ImageTrainer", "ImageEvaluator", "ModelPusher", "Report")
    }


def _changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the components whose texts differ."""
    return {name for name in before if before[name] != after[name]}


_SHOWN = {"Report"}
_RESULT = {"ModelPusher", *_SHOWN}  # the key of the run is in the manifest
_READ = {"ImageExampleGen", *_RESULT}
_CHECKED = {"ImageFilter", "DataGate", *_RESULT}
_TRAINED = {"ImageTrainer", *_RESULT}
_FEATURES = {"FeatureBank", "ImageTrainer", *_RESULT}


@pytest.mark.parametrize(
    ("settings", "components"),
    [
        ({"data.classes": ("a", "b")}, _READ),
        ({"data.class_level": 1}, _READ),
        ({"data.skip": ("masks",)}, _READ),
        ({"data.group_pattern": "(.)"}, {"DataGate", *_READ}),
        # Where files lie does not change the result.
        ({"data.root": "/elsewhere"}, {"ImageExampleGen", *_SHOWN}),
        ({"data.follow_links": True}, {"ImageExampleGen", *_SHOWN}),
        ({"split.seed": 2}, {"DataGate", *_READ}),
        ({"split.test": 0.2}, {"DataGate", *_READ}),
        ({"judge.min_side": 2}, _CHECKED),
        ({"judge.severity.dark": "ignore"}, _CHECKED),
        ({"judge.threshold.near_duplicate": 1}, _CHECKED),
        ({"judge.pixel_limit": 2}, {"ImageExampleGen", *_CHECKED}),
        ({"judge.store": "/elsewhere"}, {"ImageExampleGen", *_SHOWN}),
        ({"gate.min_train": 2}, {"DataGate", *_RESULT}),
        ({"gate.drift": "ignore"}, {"DataGate", *_RESULT}),
        ({"gate.min_validation": 2}, {"DataGate", *_READ}),
        ({"course.views.count": 1}, _FEATURES),
        ({"bank.budget": 1}, {"FeatureBank", *_RESULT}),
        ({"bank.store": "/elsewhere"}, {"FeatureBank", *_SHOWN}),
        ({"model.backbone": "mobilenet_v2", "model.weights": "none"}, _FEATURES),
        ({"model.image_size": 64}, _FEATURES),
        # The features are chosen for the head, unless the setting names them.
        ({"train.seed": 2}, _FEATURES),
        ({"model.features": "average"}, _FEATURES),
        ({"train.minutes": 1}, _TRAINED),
        ({"course.fine_tune.epochs": 2}, _TRAINED),
        ({"evaluate.threshold": 0.5}, {"ImageEvaluator", *_RESULT}),
        ({"evaluate.tfma": True}, {"ImageEvaluator", *_SHOWN}),
        ({"evaluate.max_drop": 0.5}, {"ImageEvaluator", *_RESULT}),
        ({"evaluate.cross_validate": 2}, {"ImageEvaluator", *_TRAINED}),
        ({"push.keep": 2}, _RESULT),
        ({"run.keep": 1}, _RESULT),
        ({"run.name": "hands"}, {"ImageTrainer", *_RESULT}),
        (
            {"run.out": "/elsewhere"},
            {"ImageExampleGen", "DataGate", "FeatureBank", "ImageEvaluator", *_RESULT},
        ),
        ({"beam.runner": "processes"}, _SHOWN),
    ],
)
def test_a_setting_invalidates_the_components_that_depend_on_it(
    config: Settings, settings: dict[str, Any], components: set[str]
):
    after = _planned(configs.build(config.model_dump(), settings))
    assert _changed(_planned(config), after) == components


def test_a_setting_that_a_component_does_not_read_is_missing_there(config: Settings):
    given = Given.read(_planned(config)["FeatureBank"])
    assert given.settings.size == config.size and given.facts.vocabulary == ("a", "b")
    for section, name in (("course", "epochs"), ("train", "minutes"), ("run", "name")):
        with pytest.raises(AttributeError, match=name):
            getattr(getattr(given.settings, section), name)
    with pytest.raises(AttributeError, match="judge"):
        given.settings.judge  # noqa: B018
    with pytest.raises(AttributeError, match="run_key"):
        given.facts.run_key  # noqa: B018


def test_new_images_change_the_fingerprint(config: Settings, photos: Path):
    before = _planned(config)
    Image.new("RGB", (50, 50)).save(photos / "a" / "2.png")
    after = _planned(config)
    assert _changed(before, after) == {"DataGate", *_READ}


def test_a_wrong_parameter_of_a_run_is_named(config: Settings):
    with pytest.raises(ConfigError, match=r"evaluate\.threshold: .* Received: 2") as raised:
        _planned(config, threshold=2.0)
    assert str(raised.value).startswith("the parameters of the pipeline: ")


def test_the_accepted_schema_is_part_of_the_plan(config: Settings):
    assert Given.read(_planned(config)["SchemaGen"]).facts.accepted_schema == ""
    config.places.schema.parent.mkdir(parents=True)
    text = 'feature { name: "label" }\n'
    config.places.schema.write_text(text)
    before = _planned(config)
    facts = Given.read(before["DataGate"]).facts
    assert Given.read(before["SchemaGen"]).facts.accepted_schema == facts.accepted_schema == text
    assert facts.accept_changes == 0
    facts = facts.model_copy(update={"accept_changes": 1})
    columns = {"image_hash": ["x", "y"], "label": ["a", "b"], "split": "train", "verdict": ""}
    accepted.write(config.places.schema, pd.DataFrame(columns), Given(config, facts))
    after = _planned(config)
    assert Given.read(after["DataGate"]).facts == facts
    assert Given.read(after["ImageEvaluator"]).facts.accept_changes == 1
    assert _changed(before, after) == {"DataGate", "ImageEvaluator"}, "what was accepted stays so"


def _decided(config: Settings, *decisions: Override, place: str = DECISIONS) -> plans.Plan:
    """Return the plan of a run with a file of decisions about single images."""
    file = config.places.out / place
    file.parent.mkdir(exist_ok=True)
    file.write_text(overrides.to_toml(decisions), encoding="utf-8")
    named = configs.build(
        config.model_dump(), {"judge.overrides": "" if place == DECISIONS else str(file)}
    )
    return plans.make(named, usable(named).hashed())


def test_a_decision_about_an_image_changes_the_run_key_but_its_note_does_not(
    config: Settings,
):
    def key(plan: plans.Plan) -> str:
        return plan.facts.run_key

    accept = Override("0" * 64, "accept")
    none, decided = _decided(config), _decided(config, accept)
    assert Given.read(none.texts["ImageFilter"]).facts.decisions == ()
    assert Given.read(decided.texts["ImageFilter"]).facts.decisions == (accept,)
    assert key(none) != key(decided)
    noted = Override("0" * 64, "accept", note="seen", path="a/1.jpg")
    moved = _decided(config, noted, place="other.toml")
    assert key(moved) == key(decided) and moved.texts["ImageFilter"] == decided.texts["ImageFilter"]
    with pytest.raises(ConfigError, match="relabels 1 image to 'c', which is not a class"):
        _decided(config, Override("0" * 64, "relabel", "c"))
