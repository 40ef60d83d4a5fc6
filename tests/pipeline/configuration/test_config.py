"""Tests of the configuration: validation, messages, `--set`, the written file, Beam's options."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from imgpipe.components.common.beam import worker_start
from imgpipe.components.image_filter.judge.checks import CHOICES, THRESHOLDS
from imgpipe.models.backbones import presets
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings import section
from imgpipe.models.settings.section import AUTOMATIC
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration import given_settings
from imgpipe.pipeline.configuration.beam import arguments
from imgpipe.pipeline.configuration.given_settings import assigned

FLINK = {"runner": "flink", "job_endpoint": "h:8099"}
SOLVED = 'the head is solved. Set course.optimizer = "adam" to train it by epochs.'
NO_SEARCH = "train.minutes has no effect: no better network is looked for beside"


def test_defaults_are_valid_and_documented():
    assert Settings().split.validation == 0.1
    for key, field in configs.all_fields().items():
        assert field.description, f"{key} has no description"
        # A value that is not set is written as a comment with an example.
        usual = field.get_default(call_default_factory=True)
        assert usual is not None or field.examples, f"{key} has no example"


def test_paths_of_inputs_start_at_the_file_and_all_others_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "project" / "c.toml"
    file.parent.mkdir()
    file.write_text(
        '[data]\nsource = "rows.csv"\nroot = "../all"\n[judge]\noverrides = "mine.toml"\n'
        '[bank]\nstore = "features"\n'
    )
    monkeypatch.chdir(tmp_path)
    config = configs.load(file)
    assert (config.data.source, config.data.root) == (
        f"{file.parent}/rows.csv",
        f"{tmp_path}/all",
    )
    assert config.places.overrides == file.parent / "mine.toml"
    assert config.places.bank == tmp_path / "features"
    absolute = configs.absolute(config)
    assert absolute.bank.store == str(tmp_path / "features")
    assert absolute.run.out == str(tmp_path / "imgpipe-out")
    assert (absolute.judge.store, Settings().places.overrides) == ("", None), "not given"
    given = assigned(["data.source=list.csv", "data.tfds_dir=td", "model.weights=w.keras"])
    file.write_text(given_settings.to_toml(configs.absolute(configs.build({}, given))))
    read = configs.load(file)
    assert (read.data.source, read.data.tfds_dir, read.model.weights) == (
        *(f"{tmp_path}/list.csv", f"{tmp_path}/td", f"{tmp_path}/w.keras"),
    )


@pytest.mark.parametrize("name", ["tfds:cats_vs_dogs", "gs://bucket/images"])
def test_names_and_addresses_of_sources_are_no_paths(name: str):
    config = configs.build({}, {"data.source": name})
    assert configs.absolute(config).data.source == name


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"course": {"epoch": 3}}, "unknown key 'course.epoch'; did you mean 'course.epochs'?"),
        ({"trian": {}}, "unknown key 'trian'; did you mean 'train'?"),
        ({"train": {"treshold": 1}}, "did you mean 'evaluate.threshold'?"),
        ({"course": {"epochs": "many"}}, "course.epochs: input should be a valid integer"),
        ({"course": {"epochs": 0}}, "course.epochs: input should be greater than or equal to 1"),
        ({"split": {"validation": 0.6, "test": 0.5}}, "must leave something to train on"),
        ({"train": 3}, "'train' is a section"),
        ({"run": {"name": "a b"}}, "run.name"),
        ({"course": {"views": {"fill": "black"}}}, "Received: 'black'"),
        (
            {"evaluate": {"cross_validate": 5}, "course": {"freeze": "none"}},
            "features of a frozen backbone",
        ),
        (
            {"beam": {"runner": "flnk"}},
            "beam.runner: input should be 'local', 'processes', 'flink'",
        ),
        ({"beam": {"runner": "flink"}}, "need each other. Received: 'flink' and ''"),
        ({"beam": {"job_endpoint": "h:1"}}, "need each other. Received: 'local' and 'h:1'"),
        (
            {"beam": {**FLINK, "job_endpoint": "http://h:1"}},
            "beam.job_endpoint: expected: HOST:PORT of the",
        ),
        (
            {"beam": {**FLINK, "args": ["--runner=FlinkRunner"]}},
            "both name the engine; remove one of them",
        ),
    ],
)
def test_what_is_wrong_is_named(tree, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        configs.build(tree)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("course.epochs", "--set"),
        ("=3", "--set"),
        ("epochs=3", "--set"),
        ("data.group_pattern='('", "not a regular expression"),
        ("data.group_pattern=abc", "data.group_pattern: it needs round brackets"),
        ("data.label_pattern=abc", "data.label_pattern: it needs round brackets"),
        (r'data.group_pattern="([^/]+)\.rf"', "in quotes is not valid TOML. Use single quotes"),
        ("data.classes=['a']", "two or more"),
        ("data.classes=cat,dog", "expected a list such as"),
        ("evaluate.cross_validate=1", "must be -1 (automatic), 0 (off) or 2 to 20 folds"),
        (f"split.seed={2**63}", f"split.seed: input should be less than or equal to {2**63 - 1}"),
        ("bank.budget=inf", "finite number"),
        ("judge.severity.dark=repair", "judge.severity.dark: input should be 'warn', 'reject'"),
        ("judge.severity.drak=warn", "did you mean 'judge.severity.dark'?"),
        ("judge.severity=warn", "'judge.severity' is a section; expected one of its keys, such as"),
        ("judge.threshold.alpha=1.0", "unknown key 'judge.threshold.alpha'"),
        ("judge.threshold.dark=much", "judge.threshold.dark: input should be a valid number"),
        ("data.classes=" + "[" * 100_000, "expected a list such as"),
        ("judge.severity.zero_byte=warn", "unknown key 'judge.severity.zero_byte'"),
    ],
)
def test_impossible_assignments_are_refused(assignment, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        configs.build({}, assigned([assignment]))


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("course.epochs=3", 3),
        ("run.name=plain", "plain"),
        ("course.views.horizontal_flip=false", False),
        ("beam.args=['--a=b']", ("--a=b",)),
        ("data.label_column=0", "0"),
        ("run.name=2024", "2024"),
        ("run.out=2024-01-01", "2024-01-01"),
    ],
)
def test_a_value_is_toml_or_a_text_and_a_text_where_the_setting_is_one(assignment, value):
    config = configs.build({"course": {"epochs": 9}}, assigned([assignment]))
    assert dict(configs.flat(config.model_dump()))[assignment.partition("=")[0]] == value


def test_a_wrong_argument_is_not_blamed_on_the_file(tmp_path: Path):
    file = tmp_path / "c.toml"
    file.write_text("[course]\nepochs = 3\n")
    with pytest.raises(ConfigError, match=r"^arguments: course\.epochs: .*-1"):
        configs.load(file, {"course.epochs": -1})
    file.write_text("[course]\nepochs = 0\n")
    with pytest.raises(ConfigError, match=r"^.*c\.toml: course\.epochs: .*0"):
        configs.load(file, {"course.patience": -1})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[train\n", "is not valid TOML"),
        (b"a = " + b"[" * 100_000, "is not valid TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (None, "cannot read"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, content, expected):
    file = tmp_path / "c.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as caught:
        configs.load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("assignments", "folds"),
    [
        ([], AUTOMATIC),
        (["evaluate.cross_validate=0"], 0),
        (["evaluate.cross_validate=4"], 4),
        (["course.freeze=none"], 0),
        (["course.fine_tune.mode=on"], 0),
    ],
    ids=str,
)
def test_cross_validation_is_automatic_where_it_evaluates_the_published_model(assignments, folds):
    assert configs.build({}, assigned(assignments)).folds == folds


def test_severity_and_threshold_of_every_check_can_be_set_and_written(tmp_path: Path):
    config = configs.build(
        {"judge": {"severity": {"dark": "reject"}}, "beam": {"args": ["--x=1", "--y"]}},
        {"judge.severity.alpha": "ignore", "judge.threshold.dark": 0.25},
    )
    assert config.judge.severity == {"dark": "reject", "alpha": "ignore"}
    assert config.judge.threshold == {"dark": 0.25}
    file = tmp_path / "c.toml"
    file.write_text(given_settings.to_toml(config))
    assert configs.load(file) == config
    written = tomllib.loads(file.read_text())["judge"]
    assert list(written["severity"]) == list(CHOICES)
    assert list(written["threshold"]) == list(THRESHOLDS)


def test_a_threshold_that_nobody_gave_is_written_as_a_comment(tmp_path: Path):
    """A version may have another one, which would not hold beside one in the file."""
    file = tmp_path / "c.toml"
    for given, line in (
        ({}, "# threshold = 0.9"),
        ({"evaluate.threshold": 0.9}, "threshold = 0.9"),
    ):
        config = configs.absolute(configs.build({}, given))
        file.write_text(given_settings.to_toml(config))
        assert line in file.read_text().splitlines()
        assert configs.load(file) == config
        assert configs.load(file).has_threshold is config.has_threshold is bool(given)


@pytest.mark.skipif(not presets.installed(), reason="KerasHub is not installed (the extra hub)")
def test_the_folder_of_a_preset_starts_at_the_folder_of_the_file(tmp_path: Path):
    file = tmp_path / "imgpipe.toml"
    file.write_text('[data]\nsource = "photos"\n[model]\nbackbone = "hub:./small"\n')
    assert configs.load(file).model.backbone == f"hub:{tmp_path}/small"
    here = configs.build({"data": {"source": "x"}, "model": {"backbone": "hub:a/b"}})
    assert configs.absolute(here).model.backbone == f"hub:{Path.cwd()}/a/b"


@pytest.mark.parametrize("name", ["run.out", "bank.store", "judge.overrides"])
@pytest.mark.parametrize("address", ["gs://b/m", str(Path("gs://b/m"))])
def test_an_address_of_a_bucket_is_no_folder(name, address):
    table, key = name.split(".")
    with pytest.raises(ConfigError, match=rf"{name}: expected a path on this machine.*'gs:/"):
        configs.build({table: {key: address}})


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://KEY:SEC/RET@bucket/photos", "'s3://…@bucket/photos'"),
        ("s3://bucket/photos?sig=SECRET", "'s3://bucket/photos?…'"),
    ],
)
def test_an_error_does_not_repeat_a_secret_in_an_address(address, shown):
    for path, words in ((address, shown), (str(Path(address)), str(Path(shown)))):
        assert str(ConfigError(f"no {path} here")) == f"no {words[1:-1]} here"


@pytest.mark.parametrize(
    "source", ["csv:/home/me@work/list.csv", "tfrecord:/data/part-??.tfrecord"]
)
def test_a_path_with_the_signs_of_an_address_is_none(source: str) -> None:
    assert configs.build({"data": {"source": source}}).data.source == source
    assert str(ConfigError(source)) == source


def test_minutes_and_folds_decide_whether_there_is_a_search() -> None:
    def searches(**tree: dict[str, object]) -> bool:
        return configs.build({"data": {"source": "photos"}, **tree}).searches

    assert searches(train={"minutes": 2.5})
    assert not searches(train={"minutes": 0})
    assert not searches(evaluate={"cross_validate": 5}), "folds compare heads"


def test_only_settings_that_differ_from_the_defaults_are_changed() -> None:
    assert section.changed(configs.build({})) == {}
    settings = {"course.epochs": 3, "judge.severity.alpha": "reject", "run.out": "/elsewhere"}
    changed = section.changed(configs.build({}, settings))
    assert changed == {"course.epochs": 3, "judge.severity.alpha": "reject"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), []),
        (("course.epochs=9",), [f"course.epochs has no effect: {SOLVED}"]),
        (
            ("course.fine_tune.cut=block10", "course.fine_tune.mode=off"),
            ["course.fine_tune.cut has no effect: only"],
        ),
        (("course.fine_tune.cut=block10", "course.fine_tune.epochs=2"), []),
        (("train.minutes=0",), []),
        (("train.minutes=0", "course.optimizer=adam"), []),
        (("train.minutes=30", "course.optimizer=adam"), [NO_SEARCH]),
        (("train.minutes=30", "evaluate.cross_validate=10"), [NO_SEARCH]),
        (("train.minutes=30", "course.freeze=none"), [NO_SEARCH]),
        (
            ("course.views.count=0", "course.views.rotation=5"),
            ["course.views.rotation has no effect: course.views.count is 0"],
        ),
        (("bank.budget=3", "course.freeze=none"), ["bank.budget has no effect: all layers"]),
    ],
)
def test_a_given_setting_without_effect_is_mentioned(
    settings: tuple[str, ...], expected: list[str]
):
    found = given_settings.without_effect(configs.build({}, assigned(settings)))
    assert len(found) == len(expected), found
    for sentence, start in zip(found, expected, strict=True):
        assert sentence.startswith(start)


@pytest.mark.parametrize("preset", given_settings.presets())
def test_every_setting_of_a_preset_has_an_effect(preset: str):
    assert given_settings.without_effect(given_settings.configuration(preset, None, None, {})) == []


def options(**beam: object) -> list[str]:
    """Return the options that Beam receives for a section [beam]."""
    return arguments(configs.build({"beam": beam}).beam)


def test_each_runner_gets_its_options():
    worker = json.dumps({"command": str(worker_start.script())})
    common = [
        "--sdk_container_image=none",
        "--beam_plugins=imgpipe.components.common.beam.beam_worker",
    ]
    # Without the last option, a runner ends its workers after each stage.
    portable = [
        *("--runner=PortableRunner", "--job_endpoint=h:8099", "--environment_cache_millis=60000")
    ]
    process = ["--environment_type=PROCESS", f"--environment_config={worker}"]
    local = ["--runner=FnApiRunner", "--no_pipeline_type_check"]
    workers = ["--direct_running_mode=multi_processing", "--direct_num_workers=0"]
    images = ["--environment_type=DOCKER", "--environment_config=workers:1"]
    assert options() == [*local, *common]
    assert options(runner="processes") == [*local, *workers, *common]
    given = ["--flink_version=1.20"]
    assert options(**FLINK, args=given) == [*portable, *process, *common, *given]
    assert options(**FLINK, args=images) == [*portable, *common, *images]


def test_args_alone_choose_the_runner():
    given = ("--runner=FnApiRunner", "--direct_num_workers=2", "--beam_plugins=mine")
    assert options(args=given) == ["--sdk_container_image=none", *given]
    # Without --runner, Beam would take DirectRunner, which downloads a program.
    assert options(args=["--direct_num_workers=2"])[0] == "--runner=FnApiRunner"
