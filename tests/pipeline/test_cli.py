"""Tests of the command line: exit codes, messages and imported modules."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from imgpipe.pipeline.doctor import machine
from imgpipe.pipeline.output import run_summary
from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.output.run_summary import summarised
from tests import python_program, run_facts
from tests.command import imgpipe
from tests.images import class_folders


def test_help_imports_only_what_it_needs_to_print():
    """Help loads neither NumPy nor Pydantic nor the configuration, so that it answers quickly."""
    program = (
        "import atexit, runpy, sys\n"
        "sys.argv = ['imgpipe', '--help']\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "runpy.run_module('imgpipe.pipeline.cli', run_name='__main__')\n"
    )
    result = python_program.ended(program)
    assert result.returncode == 0, result.stderr
    modules = set(result.stderr.split())
    printing = {"annotated_doc", "attr", "click", "markdown_it", "mdurl", "pygments", "rich"}
    assert not modules & {"imgpipe.pipeline.configuration", "imgpipe.components"}
    foreign = {name.split(".")[0] for name in modules} - {"imgpipe"} - sys.stdlib_module_names
    foreign = {name for name in foreign if not name.startswith("_") and name != "google"}
    ours = printing | {"shellingham", "typer"}
    assert foreign <= ours | {"sitecustomize"}, "Debian's Python imports a sitecustomize itself"


def test_short_help_and_version():
    from importlib.metadata import version

    assert imgpipe("-h").stdout == imgpipe("--help").stdout
    assert imgpipe("runs", "-h").stdout == imgpipe("runs", "--help").stdout
    assert imgpipe("--version").stdout == f"imgpipe {version('imgpipe')}\n"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("imgpipe export o", ["onnx"]),
        ("imgpipe run --preset cats_vs_dogs_f", ["cats_vs_dogs_full"]),
        ("imgpipe run --set evaluate.thr", ["evaluate.threshold="]),
    ],
)
def test_the_shell_completes_exports_presets_and_settings(monkeypatch, words, completed):
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    monkeypatch.setenv("_IMGPIPE_COMPLETE", "complete_bash")
    assert imgpipe().stdout.split() == completed


def test_scanning_and_the_client_do_not_import_tensorflow():
    program = (
        "import sys, imgpipe.components, imgpipe.pipeline.execution.pipeline_run\n"
        "import imgpipe.serving.client\n"
        "print(sorted({'tensorflow', 'tfx', 'apache_beam', 'keras'} & set(sys.modules)))\n"
    )
    assert python_program.printed(program).strip() == "[]"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with eight images of each of the classes "a b" and "ü"."""
    from PIL import Image

    colours = {"a b": "red", "ü": "blue"}
    return class_folders(
        tmp_path / "photos",
        {
            label: [Image.new("RGB", (40 + i, 40), colour) for i in range(8)]
            for label, colour in colours.items()
        },
    )


def test_init_writes_a_configuration_for_the_folder(photos: Path, tmp_path: Path):
    result = imgpipe("init", str(photos), "-o", str(tmp_path / "c.toml"))
    assert result.returncode == 0, result.stderr
    assert "16 files in 2 classes: a b 8, ü 8" in result.stdout
    assert f"installed backbones: {machine.installed_backbones()}\n" in result.stdout
    from imgpipe.pipeline.configuration import config as configs

    config = configs.load(tmp_path / "c.toml")
    assert config.data.source == str(photos)
    assert config.split == configs.Config().split, "folds decide where validation has few images"
    assert max(map(len, (tmp_path / "c.toml").read_text().splitlines())) <= 100 + len(str(photos))
    for output, expected in (
        (str(tmp_path / "c.toml"), "exists already"),
        ("missing/x.toml", "--output missing/x.toml: its folder does not exist"),
        ("-", "--output takes the name of a file"),
    ):
        refused = imgpipe("init", str(photos), "-o", output, cwd=tmp_path)
        assert refused.returncode == 2 and expected in refused.stderr


def test_suggested_commands_can_be_copied_where_names_have_spaces(photos: Path, tmp_path: Path):
    file = tmp_path / "my photos.toml"
    result = imgpipe("init", str(photos), "-o", str(file))
    assert f"next: imgpipe run --config '{file}'\n" in result.stdout
    assert "imgpipe run --config 'my photos.toml'\n" in file.read_text()
    folder = tmp_path / "my photos"
    folder.mkdir()
    assert f"imgpipe run '{folder}'" in imgpipe("run", "--config", str(folder)).stderr


@pytest.mark.parametrize("command", ["demo", "check"])
def test_a_file_where_a_folder_is_written_is_an_error_with_advice(
    photos: Path, tmp_path: Path, command: str
):
    file = tmp_path / "file"
    file.write_text("")
    arguments = {
        "demo": ("demo", "--out", str(file)),
        "check": ("check", str(photos), "--set", f"judge.store={file}"),
    }
    result = imgpipe(*arguments[command])
    assert result.returncode == 5
    assert str(file) in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("held", ["", "run"], ids=["drawing", "running"])
def test_a_demo_leaves_the_images_of_another_one_that_is_working(tmp_path: Path, held: str):
    photos = tmp_path / "photos"
    for folder in (photos, tmp_path / "run"):
        folder.mkdir()
    (tmp_path / ".imgpipe-demo").write_text("")
    (photos / "a.jpg").write_text("")
    with OutputFolder(tmp_path / held).locked("busy"):
        result = imgpipe("demo", "--out", str(tmp_path))
    assert result.returncode == 5 and "another demo is working" in result.stderr
    assert (photos / "a.jpg").exists()


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("evaluator", "did you mean 'ImageEvaluator'?"),
        ("Pusherr", "did you mean 'ModelPusher'?"),
        ("Nothing", "Components: Plan, Baseline, ImageExampleGen"),
    ],
)
def test_an_unknown_component_is_refused_before_the_imports(photos: Path, start: str, expected):
    out = photos.parent / "out"
    result = imgpipe("run", str(photos), "--out", str(out), "--from", start)
    assert result.returncode == 2
    assert f"--from {start}: this pipeline has no such component" in result.stderr
    assert expected in result.stderr
    assert not out.exists(), "no run was begun"


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("check", "nowhere"), 2, "nowhere"),
        (("explain", "a.png", "b.png"), 2, "there is no file a.png, b.png"),
        (("--set", "judge.overrides='gone.toml'"), 2, "cannot read"),
        (("--set", "model.weights='gone.keras'"), 5, "model.weights: there is no file"),
    ],
)
def test_missing_files_are_found_before_the_imports(
    photos: Path, tmp_path: Path, arguments, code: int, expected: str
):
    if arguments[0] == "--set":
        arguments = ("run", str(photos), *arguments)
    result = imgpipe(*arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert expected in result.stderr
    assert "loading" not in result.stdout


def test_the_component_names_are_those_of_the_graph(tmp_path: Path):
    from imgpipe.components.example_gen.sources import Item, Scan
    from imgpipe.components.run_record import component_names
    from imgpipe.pipeline.configuration import config as configs
    from imgpipe.pipeline.definition import graph, plan

    found = Scan("p", (Item("a/1.jpg", "a", sha256="0" * 64),), ("a", "b"), fingerprint="f")
    for settings in (
        ("evaluate.cross_validate=3",),
        ("model.freeze='none'", "model.weights='none'"),
    ):
        config = configs.build({"run": {"out": str(tmp_path)}}, settings)
        known = plan.make(config, found)
        pipeline = graph.create_pipeline(config, known, graph.Storage("root"))
        built = {node.id for node in pipeline.components}
        assert built == set(component_names.TASKS.keys())
        assert component_names.full_name("imageEVALUATOR") == "ImageEvaluator"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run",), "no images"),
        (("run", ""), "source of the images is empty"),
        (("run", ".", "--out", ""), "(--out) is empty"),
        (("run", ".", "--set", "run.out="), "run.out: "),
        (("run", ".", "--from", ""), "this pipeline has no such component"),
        (("run", "--set", "run.name=a b"), "run.name: expected: Name of the pipeline"),
        (("serve", "OUT", "--rest-port", "99999"), "--rest-port"),
        (("check", ".", "--html", "-"), "--html takes the name of a file"),
        (("init", ""), "SRC is empty"),
        (
            ("run", "--preset", "no_such_preset"),
            "there is no configuration file and no preset named 'no_such_preset'",
        ),
        (("run", "--config", "missing.toml"), "cannot read config"),
        (("run", "c.toml"), "source of images. For its settings: imgpipe run --config c.toml"),
        (("run", ".", "--config", "a.toml", "--preset", "transfer"), "do not go together"),
        (("run", "--set", "train.epoch=1"), "did you mean 'train.epochs'"),
        (("predict", "missing.jpg"), "missing.jpg: there is no such file"),
        (("serve", "OUT", "--log-share", "0.2"), "--log-share need --request-log PREFIX"),
    ],
)
def test_bad_arguments_end_with_exit_code_2_and_a_message(tmp_path: Path, arguments, expected):
    result = imgpipe(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stdout + result.stderr
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("place", [(), ("model",)])
def test_serve_and_rollback_find_the_versions_of_a_run(tmp_path: Path, place: tuple[str, ...]):
    (tmp_path / "model" / "1").mkdir(parents=True)
    folder = str(tmp_path.joinpath(*place))
    result = imgpipe("serve", folder, "--", "--no_such_flag=1")
    assert "no_such_flag" in result.stderr, "the versions were found, the server's flags are read"
    result = imgpipe("rollback", folder)
    assert result.returncode == 5 and "intact as a run published it" in result.stderr


def test_a_folder_that_may_not_be_entered_is_named_without_a_traceback():
    """The superuser may enter every folder, so that the error is raised in place of a command."""
    code = (
        "from imgpipe.pipeline import application, cli\n"
        "def app(**_): raise PermissionError(13, 'Permission denied', '/shut/out')\n"
        "application.app = app\n"
        "cli.main()"
    )
    result = python_program.ended(code)
    assert result.returncode == 5, result.stderr
    assert "no permission for /shut/out: Permission denied. Give this user" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_in_place_of_a_file_is_refused_before_any_work(tmp_path: Path):
    result = imgpipe("runs", "--json", str(tmp_path))
    assert result.returncode == 2, result.stderr
    assert f"--json {tmp_path} is a folder. Name a file" in result.stderr.replace("\n", "")
    assert result.stdout == ""


def test_init_writes_toml_whatever_the_names_of_classes_and_file(tmp_path: Path):
    for label in ("a\n[run]", "b\x01\x1b[31m"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "1.jpg").write_bytes(label.encode())
    result = imgpipe("init", "photos", "-o", "x\ny.toml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    written = tomllib.loads((tmp_path / "x\ny.toml").read_text())
    assert written["data"]["source"] == str(tmp_path / "photos")
    assert r"a\n[run] 1, b\x01\x1b[31m 1" in result.stdout


def test_no_model_is_a_missing_resource(tmp_path: Path):
    result = imgpipe("serve", "gone", cwd=tmp_path)
    assert result.returncode == 5, result.stderr
    assert "no model in gone. Expected: the output folder of a run" in result.stderr
    assert "Received: there is no such folder" in result.stderr


def test_predict_without_a_server_ends_with_exit_code_5(photos: Path):
    image = next(photos.rglob("*.png"))
    result = imgpipe("predict", str(image), "--server", "127.0.0.1:9", "--timeout", "2")
    assert result.returncode == 5, result.stderr
    assert "127.0.0.1:9" in result.stderr


def test_doctor_checks_this_machine():
    result = imgpipe("doctor")
    assert result.returncode == 0, result.stdout
    names = ("Python", "packages", "processor", "memory", "disk", "backbones", "weights")
    for name in names:
        assert name in result.stdout


def test_summary_of_a_complete_run_has_what_its_facts_say():
    found = run_facts.facts()
    expect = {"text": "", "low": 0.9, "high": None, "split": "test"}
    found["settings"]["expect"] = expect
    found["metrics"]["test"] |= {"accuracy": 0.95, "loss": float("inf")}
    found["bank"]["features"] = "covariance"
    found["training"]["features"] = "average"  # the search has kept a network
    timings = {"total_s": 1.0, "import_s": 0.5, "components": {}}
    built = summarised(found, timings, ["FeatureBank"], "p/\udcff", run_facts.BLESSED)
    for part in ("gate", "data", "training", "push", "metrics"):
        assert built[part] == found[part], part
    assert built["bank"] == {"forward_passes": 0, "reused": 680}, "cached: none of this run"
    assert built["model"]["features"] == "average"
    assert built["findings"] == [], "the folds decide, so that few images need no warning"
    assert (built["expected"]["value"], built["expected"]["compared"]) == (0.95, "within")
    written = json.loads(json.dumps(built))
    assert written == built and run_summary.read(written) == built


def test_init_describes_an_archive_and_a_list(photos: Path, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(photos.rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path).as_posix())
        archive.writestr("../outside.png", b"x")
    made = imgpipe("init", str(tmp_path / "set.zip"), "-o", str(tmp_path / "c.toml"))
    assert made.returncode == 0, made.stderr
    assert "noted: folder around all others 1, unsafe name 1" in made.stdout
    rows = [
        f"{file.relative_to(tmp_path).as_posix()},{file.parent.name},{file.stem}"
        for file in sorted(photos.rglob("*.png"))
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,group", *rows, "gone.png,ü,9"]))
    listed = imgpipe("init", str(tmp_path / "list.csv"), "-o", str(tmp_path / "l.toml"))
    assert "17 files in 2 classes" in listed.stdout, listed.stderr
    assert "9 groups, each of which stays in one split" in listed.stdout
    missing = imgpipe("check", "tfds:no_such_set")
    assert missing.returncode == 2 and "tfds:no_such_set" in missing.stderr


def test_init_keeps_the_versions_of_an_image_together(tmp_path: Path):
    from imgpipe.components.example_gen.sources import open_source
    from imgpipe.pipeline.commands.init import propose

    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(30):
            (tmp_path / label / f"{label}{number // 3}_png.rf.{number:032x}.jpg").write_bytes(b"")
    config = propose(open_source(str(tmp_path)).scan(), str(tmp_path))
    assert config.data.group_pattern == r"([^/]+)\.rf\."


def test_all_messages_can_be_printed_on_an_ascii_terminal():
    """Symbols and file names that an ASCII terminal cannot show are written as escapes."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "imgpipe.pipeline.cli", "runs", "\u00fc"]
    result = subprocess.run(command, capture_output=True, env={**os.environ, **ascii_only})
    assert result.returncode == 5, result.stderr
    assert result.stderr.isascii() and b"Traceback" not in result.stderr


def _leaves(group, words=("imgpipe",)):
    """Yield the words and the command of every command that is no group."""
    for name, command in getattr(group, "commands", {}).items():
        yield from _leaves(command, (*words, name))
    if not hasattr(group, "commands"):
        yield words, group


def test_every_command_shows_examples_that_its_options_allow():
    import shlex

    import typer

    from imgpipe.pipeline.application import app

    root = typer.main.get_command(app)
    commands = dict(_leaves(root))
    assert len(commands) > 15
    for words, command in commands.items():
        name = " ".join(words)
        heading, *examples = [line.strip() for line in (command.epilog or "").splitlines() if line]
        examples = [line for line in examples if line]
        assert heading == "Examples:" and examples, f"{name} --help has no examples"
        assert any(line.startswith(f"{name} ") or line == name for line in examples), name
        for line in examples:
            given = shlex.split(line)
            known = max((one for one in commands if given[: len(one)] == list(one)), key=len)
            target = commands[known]
            with target.make_context(" ".join(known), given[len(known) :], parent=None) as context:
                assert context.params is not None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("serv", "photos"), "No such command 'serv'. Did you mean 'serve'?"),
        (("trian", "photos"), "No such command 'trian'. Did you mean 'run'?"),
        (("train", "photos"), "No such command 'train'. Did you mean 'run'?"),
        (("run", "--ouput", "5"), "No such option: --ouput (Possible options: --out)"),
        (
            ("run", "--thresold", "0.9"),
            "No such option: --thresold (Possible options: --set evaluate.threshold=VALUE)",
        ),
        (("run", "--threshold", "0.9"), "(Possible options: --set evaluate.threshold=VALUE)"),
        (("run", "--nonsense"), "No such option: --nonsense"),
    ],
)
def test_a_wrong_word_is_answered_with_what_may_be_meant(arguments, expected):
    result = imgpipe(*arguments)
    words = " ".join(result.stderr.replace("│", " ").split())
    assert result.returncode == 2 and expected in words
    assert ("Possible" in words) == ("Possible" in expected)


def test_outputs_among_the_images_are_refused_and_nothing_is_written(photos: Path):
    before = sorted(photos.iterdir())
    for more in (("--out", str(photos)), ("--set", f"bank.store={photos}/bank")):
        result = imgpipe("run", str(photos), *more)
        assert result.returncode == 2
        assert "lies in the folder of the images" in result.stderr
    assert sorted(photos.iterdir()) == before


def test_a_misspelled_output_folder_of_predict_is_named(photos: Path):
    image = str(next(photos.rglob("*.png")))
    result = imgpipe("predict", image, "--model", "imgpipe-ou", "--timeout", "1")
    assert result.returncode == 5
    assert (
        "There is no folder 'imgpipe-ou', so --model was taken for a model's name" in result.stderr
    )
