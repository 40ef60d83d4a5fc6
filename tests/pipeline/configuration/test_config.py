"""Tests of the configuration: validation, messages, ``--set`` and the commented file."""

import re
import tomllib
from pathlib import Path

import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.models.features.folds import AUTOMATIC
from imgpipe.models.limits import declared
from imgpipe.pipeline.configuration import config as configs


def test_defaults_are_valid_and_documented():
    config = configs.Config()
    assert config.split.validation == 0.1
    for key in configs.known_keys():
        *sections, name = key.split(".")
        model = config
        for section in sections:
            model = getattr(model, section)
        field = declared(model)[name]
        assert field.description, f"{key} has no description"
        # A value that is not set is written as a comment with an example.
        assert getattr(model, name) is not None or field.examples, f"{key} has no example"


def test_written_file_loads_back_to_the_same_configuration(tmp_path: Path):
    config = configs.build({"run": {"name": "a"}, "beam": {"args": ["--x=1", "--y"]}})
    file = tmp_path / "c.toml"
    file.write_text(configs.to_toml(config, {"data": "a note\nof two lines"}))
    assert configs.load(file) == config
    assert "# a note\n# of two lines" in file.read_text()


def test_a_byte_order_mark_before_the_configuration_is_skipped(tmp_path: Path):
    file = tmp_path / "c.toml"
    file.write_bytes(b'\xef\xbb\xbf[run]\r\nname = "a"\r\n')
    assert configs.load(file).run.name == "a"


def test_absolute_paths_replace_only_those_that_are_given(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = configs.build({"push": {"directory": "served"}, "run": {"out": "o"}})
    absolute = config.with_absolute_paths()
    assert absolute.push.directory == str(tmp_path / "served")
    assert absolute.run.out == str(tmp_path / "o")
    assert absolute.bank.store == ""
    assert absolute.push_directory == config.push_directory


def test_the_configuration_of_a_run_can_be_read_in_another_folder(tmp_path: Path, monkeypatch):
    """Paths that were given by ``--set`` start at the working directory, not at the file's."""
    monkeypatch.chdir(tmp_path)
    given = ["data.source=list.csv", "data.root=images", "data.tfds_dir=td"]
    config = configs.build({}, [*given, "model.weights=w.keras", "judge.overrides=o.toml"])
    file = tmp_path / "runs" / "1" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(configs.to_toml(config.with_absolute_paths()))
    read = configs.load(file)
    assert read.data.source == str(tmp_path / "list.csv")
    assert read.data.root == str(tmp_path / "images")
    assert read.data.tfds_dir == str(tmp_path / "td")
    assert read.model.weights == str(tmp_path / "w.keras")
    assert read.overrides_file == tmp_path / "o.toml"


@pytest.mark.parametrize("name", ["tfds:cats_vs_dogs", "gs://bucket/images"])
def test_names_and_addresses_of_sources_are_no_paths(name: str):
    config = configs.build({}, [f"data.source={name}"])
    assert config.with_absolute_paths().data.source == name


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"train": {"epoch": 3}}, "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        ({"trian": {}}, "unknown key 'trian'; did you mean 'train'?"),
        ({"train": {"treshold": 1}}, "did you mean 'evaluate.threshold'?"),
        ({"train": {"epochs": "many"}}, "train.epochs: input should be a valid integer"),
        ({"train": {"epochs": 0}}, "train.epochs: input should be greater than or equal to 1"),
        ({"split": {"validation": 0.6, "test": 0.5}}, "must leave something to train on"),
        ({"train": 3}, "'train' is a section"),
        ({"run": {"name": "a b"}}, "run.name"),
        ({"views": {"fill": "black"}}, "Received: 'black'"),
    ],
)
def test_what_is_wrong_is_named(tree, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        configs.build(tree)


def test_set_overrides_and_parses_toml_values():
    config = configs.build(
        {"train": {"epochs": 9}},
        ["train.epochs=3", "run.name=plain", "views.horizontal_flip=false", "beam.args=['--a=b']"],
    )
    assert config.train.epochs == 3
    assert config.run.name == "plain"
    assert config.views.horizontal_flip is False
    assert config.beam.args == ("--a=b",)


@pytest.mark.parametrize("assignment", ["train.epochs", "=3", "train.epoch=3", "epochs=3"])
def test_a_bad_set_argument_is_refused(assignment):
    with pytest.raises(ConfigError, match="--set"):
        configs.build({}, [assignment])


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"[train\n", "is not valid TOML"), (b"\xff\xfe", "is not UTF-8"), (None, "cannot read")],
)
def test_unreadable_files_are_named(tmp_path: Path, content, expected):
    file = tmp_path / "c.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as caught:
        configs.load(file)
    assert str(file) in str(caught.value)


def test_a_relative_source_starts_at_the_folder_of_the_file(tmp_path: Path):
    file = tmp_path / "c.toml"
    file.write_text('[data]\nsource = "photos"\n')
    assert configs.load(file).data.source == str(tmp_path / "photos")


def test_relative_paths_of_tables_start_at_the_folder_of_the_file(tmp_path: Path):
    file = tmp_path / "c.toml"
    file.write_text('[data]\nsource = "csv:rows.csv"\nroot = "../all"\n')
    data = configs.load(file).data
    assert (data.source, data.root) == (f"csv:{tmp_path}/rows.csv", f"{tmp_path.parent}/all")
    file.write_text('[data]\nsource = "tfds:cats_vs_dogs"\n')
    assert configs.load(file).data.source == "tfds:cats_vs_dogs"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("data.group_pattern='('", "not a regular expression"),
        ("data.group_pattern=abc", "round brackets"),
        (r'data.group_pattern="([^/]+)\.rf"', "in quotes is not valid TOML. Use single quotes"),
        ("data.classes=['a']", "two or more"),
        ("data.classes=['a', 'a']", "two or more"),
    ],
)
def test_impossible_settings_of_data_are_refused(assignment, message):
    with pytest.raises(ConfigError, match=message):
        configs.build({}, [assignment])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "evaluate.cross_validate=1",
            "must be -1 .automatic., 0 .off. or 2 to 20 folds, received 1",
        ),
        ("evaluate.cross_validate=21", "less than or equal to 20"),
        (f"split.seed={2**63}", f"split.seed: .* less than or equal to {2**63 - 1}"),
        (f"push.keep={2**63}", f"push.keep: .* less than or equal to {2**63 - 1}"),
        (f"judge.pixel_limit={2**63}", f"judge.pixel_limit: .* or equal to {2**63 - 1}"),
    ],
)
def test_impossible_settings_of_gates_are_refused(assignment, message):
    with pytest.raises(ConfigError, match=message):
        configs.build({}, [assignment])


@pytest.mark.parametrize(
    ("assignments", "folds"),
    [
        ([], AUTOMATIC),
        (["evaluate.cross_validate=0"], 0),
        (["evaluate.cross_validate=4"], 4),
        (["model.freeze=none"], 0),
        (["fine_tune.mode=on"], 0),
        (["fine_tune.mode=auto"], AUTOMATIC),
    ],
    ids=str,
)
def test_cross_validation_is_automatic_where_it_evaluates_the_published_model(assignments, folds):
    assert configs.build({}, assignments).folds == folds


def test_cross_validation_needs_a_frozen_backbone():
    assert configs.build({}, ["evaluate.cross_validate=5"]).evaluate.cross_validate == 5
    with pytest.raises(ConfigError, match="features of a frozen backbone"):
        configs.build({}, ["evaluate.cross_validate=5", "model.freeze=none"])


def test_severity_and_threshold_of_every_check_can_be_set(tmp_path: Path):
    from imgpipe.components.image_filter.checks import CHOICES, THRESHOLDS

    config = configs.build(
        {"judge": {"severity": {"dark": "reject"}}},
        ["judge.severity.orientation=repair", "judge.threshold.dark=0.25"],
    )
    severity, threshold = config.judge.severity.model_dump(), config.judge.threshold.model_dump()
    assert list(severity) == list(CHOICES) and list(threshold) == list(THRESHOLDS)
    assert (severity["dark"], severity["orientation"]) == ("reject", "repair")
    assert config.judge.threshold.model_dump(exclude_defaults=True) == {"dark": 0.25}
    file = tmp_path / "c.toml"
    file.write_text(configs.to_toml(config))
    assert configs.load(file) == config and "[judge.severity]" in file.read_text()


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("judge.severity.dark=repair", "judge.severity.dark: input should be 'warn', 'reject'"),
        ("judge.severity.drak=warn", "did you mean 'judge.severity.dark'?"),
        ("judge.severity=warn", "'judge.severity' is a section; expected one of its keys, such as"),
        ("evaluate=0.9", "is a section; expected one of its keys, such as 'evaluate.threshold'."),
        ("judge.threshold.dark=much", "judge.threshold.dark: input should be a valid number"),
        ("judge.severity.zero_byte=warn", "unknown key 'judge.severity.zero_byte'"),
    ],
)
def test_impossible_severities_and_thresholds_are_refused(assignment, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        configs.build({}, [assignment])


def test_relative_files_of_decisions_start_at_the_folder_of_the_file(tmp_path: Path):
    file = tmp_path / "c.toml"
    file.write_text('[judge]\noverrides = "mine.toml"\n[gate]\nschema_file = "mine.pbtxt"\n')
    loaded = configs.load(file)
    assert loaded.overrides_file == tmp_path / "mine.toml"
    assert loaded.schema_file == Path.cwd() / "mine.pbtxt", "the first run writes it"
    assert configs.Config().overrides_file is None


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        ({"run": {"out": "~nosuch/out"}}, "run.out"),
        ({"push": {"directory": "~nosuch/model"}}, "push.directory"),
        ({"judge": {"overrides": "~nosuch/o.toml"}}, "judge.overrides"),
        ({"model": {"weights": "~nosuch/w.h5"}}, "model.weights"),
    ],
    ids=["out", "push", "overrides", "weights"],
)
def test_the_home_of_an_unknown_user_is_refused_by_the_name_of_the_setting(tree, name):
    with pytest.raises(ConfigError, match=rf"{name}: there is no home folder.*'~nosuch/"):
        configs.build(tree).with_absolute_paths()


@pytest.mark.parametrize("name", ["run.out", "push.directory", "judge.overrides"])
@pytest.mark.parametrize("address", ["gs://b/m", str(Path("gs://b/m"))])
def test_an_address_of_a_bucket_is_no_folder(name, address):
    section, key = name.split(".")
    with pytest.raises(ConfigError, match=rf"{name}: expected a path on this machine.*'gs:/"):
        configs.build({section: {key: address}})


def test_a_text_in_place_of_a_list_shows_how_to_write_one():
    with pytest.raises(ConfigError, match="expected a list such as"):
        configs.build({}, ["data.classes=cat,dog"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n".join(f"[s{i}]\na=1" for i in range(8_000)), "and 7,980 more"),
        ("[run]\nname=" + "[" * 50_000, "brackets are nested too deeply"),
        ("[run]\nname=" + "[" * 20 + "]" * 20, "run.name: input should be a valid string"),
        ("[train]\nepochs=" + "9" * 10_000, "is not valid TOML"),
        ('[run]\nout="a\\u0000b"', "run.out holds a NUL character"),
        ('[judge]\noverrides="~a\\u0000b/x"', "judge.overrides holds a NUL character"),
        ('[beam]\nargs=["--a\\u0000b"]', "beam.args holds a NUL character"),
        (".".join("a" * 2_000) + "=1", "its tables are nested too deeply"),
        ("[run]\n" + "k" * 90_000 + "=1", "unknown key 'run.kkk"),
    ],
)
def test_a_long_or_deeply_nested_configuration_is_refused(tmp_path, text, expected):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(expected)) as caught:
        configs.load(tmp_path / "c.toml")
    assert len(str(caught.value)) < 8000


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.epochs=" + "9" * 10_000, "train.epochs: unable to parse"),
        ("run.name=" + "[" * 50_000, "run.name: use letters, digits, `_`, `.` and `-`"),
        ('run.out="\\u0000"', "run.out holds a NUL character"),
        ("k" * 90_000 + "=1", "unknown key 'kkk"),
    ],
)
def test_a_long_or_deeply_nested_set_argument_is_refused(assignment, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        configs.build({}, [assignment])


def test_minutes_and_folds_decide_whether_there_is_a_search() -> None:
    def searches(**sections: dict[str, object]) -> bool:
        return configs.build({"data": {"source": "photos"}, **sections}).settings.searches

    assert searches(train={"minutes": 2.5})
    assert not searches(train={"minutes": 0})
    assert not searches(evaluate={"cross_validate": 5}), "folds compare heads"


def test_numbers_without_an_end_are_refused() -> None:
    for setting in ("bank.budget=inf", "judge.threshold.dark=inf", "train.learning_rate=inf"):
        with pytest.raises(ConfigError, match=r"finite number|less than"):
            configs.build({}, [setting])


def test_a_text_setting_takes_a_value_that_looks_like_a_number() -> None:
    config = configs.build({}, ["data.label_column=0", "run.name=2024", "run.out=2024-01-01"])
    assert (config.data.label_column, config.run.name, config.run.out) == (
        "0",
        "2024",
        "2024-01-01",
    )


def test_every_character_of_a_text_survives_the_file() -> None:
    config = configs.build({"data": {"source": "a\x7fb\u2028c\x01"}})
    assert configs.build(tomllib.loads(configs.to_toml(config))) == config


def test_a_section_that_is_no_table_is_refused_beside_an_override() -> None:
    with pytest.raises(ConfigError, match="'threshold' is a section"):
        configs.build({"judge": {"threshold": 5}}, ["judge.threshold.dark=1"])
