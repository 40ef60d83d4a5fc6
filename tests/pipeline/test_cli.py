"""Tests of the command line: exit codes, messages and imported modules."""

import shlex
import sys
import tomllib
import typing
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline import machine_checks
from imgpipe.pipeline.json_formats import FORMATS
from imgpipe.pipeline.output.output_folder import OutputFolder
from tests import python_program
from tests.command import command_of, commands, imgpipe
from tests.images import class_folders


def test_help_imports_only_what_it_needs_to_print():
    """Help loads neither NumPy nor Pydantic nor the configuration, so that it answers quickly."""
    modules, _ = python_program.imported("imgpipe", "--help")
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


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with eight images of each of the classes "a b" and "ü"."""
    drawn = {
        label: [Image.new("RGB", (40 + i, 40), colour) for i in range(8)]
        for label, colour in (("a b", "red"), ("ü", "blue"))
    }
    return class_folders(tmp_path / "photos", drawn)


def test_init_writes_a_configuration_for_the_folder(photos: Path, tmp_path: Path):
    result = imgpipe("init", str(photos), "-o", str(tmp_path / "c.toml"))
    assert result.returncode == 0, result.stderr
    assert "16 files in 2 classes: a b 8, ü 8" in result.stdout
    assert f"installed: {machine_checks.installed_backbones()}\n" in result.stdout
    from imgpipe.pipeline.configuration import config as configs

    config = configs.load(tmp_path / "c.toml")
    assert config.data.source == str(photos)
    assert config.split == Settings().split, "folds decide where validation has few images"
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
    assert f"next       imgpipe run --config '{file}'\n" in result.stdout
    assert "imgpipe run --config 'my photos.toml'\n" in file.read_text()
    folder = tmp_path / "my photos"
    folder.mkdir()
    assert f"imgpipe run '{folder}'" in imgpipe("run", "--config", str(folder)).stderr


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


def test_the_component_names_are_those_of_the_graph(tmp_path: Path):
    from imgpipe.components.example_gen.sources import Images, Item
    from imgpipe.components.example_gen.sources.images import FileReader
    from imgpipe.components.run_record import run_folder
    from imgpipe.pipeline.configuration import config as configs
    from imgpipe.pipeline.configuration.given_settings import assigned
    from imgpipe.pipeline.definition import graph, plan

    items = (Item("a/1.jpg", "a", sha256="0" * 64),)
    images = Images("p", items, ("a", "b"), (), (), FileReader("p"), "f")
    for settings in (
        ("evaluate.cross_validate=3",),
        ("course.freeze='none'", "model.weights='none'"),
    ):
        config = configs.build({"run": {"out": str(tmp_path)}}, assigned(settings))
        known = plan.make(config, images)
        pipeline = graph.create_pipeline(config, known.texts, graph.Storage("root"))
        built = {node.id for node in pipeline.components}
        assert built == set(run_folder.TASKS.keys())
        assert run_folder.full_name("imageEVALUATOR") == "ImageEvaluator"


@pytest.mark.parametrize(
    ("line", "code", "expected"),
    [
        ("run", 2, "no data source given"),
        ("run ''", 2, "source of the images is empty"),
        ("run . --out ''", 2, "(--out) is empty"),
        ("run . --set run.out=", 2, "run.out: "),
        ("run . --from ''", 2, "this pipeline has no such component"),
        ("run PHOTOS --out out --from evaluator", 2, "; nearest: ImageEvaluator."),
        ("run PHOTOS --out out --from Nothing", 2, "Components: Plan, ImageExampleGen"),
        ("run --set course.epoch=1", 2, "did you mean 'course.epochs'"),
        ("run --preset no_such_preset", 2, "no configuration file and no preset named 'no_such_pr"),
        ("run --config missing.toml", 2, "cannot read config"),
        ("run c.toml", 2, "source of images. For its settings: imgpipe run --config c.toml"),
        ("run . --config a.toml --preset transfer", 2, "do not go together"),
        ("run PHOTOS --set judge.overrides=gone.toml", 2, "cannot read"),
        ("run PHOTOS --set model.weights=gone.keras", 5, "model.weights: there is no file"),
        ("run PHOTOS --out PHOTOS", 2, "lies in the folder of the images"),
        ("run PHOTOS --set bank.store=PHOTOS/bank", 2, "lies in the folder of the images"),
        ("serve OUT --rest-port 99999", 2, "less than or equal to 65535"),
        ("serve OUT --log-share 0.2", 2, "--log-share need --request-log PREFIX"),
        ("serve OUT --log-images", 2, "--log-share need --request-log PREFIX"),
        ("serve OUT --no-web --examples", 2, "--examples needs the web page. Leave out --no-web"),
        ("serve gone", 5, "no model in gone. Expected: the output folder of a run"),
        ("serve versions -- --no_such_flag=1", 2, "no_such_flag"),
        ("serve versions --json gone/lines", 2, "--json gone/lines: its folder does not exist"),
        ("serve versions --json gs://b/lines", 2, "is an address. Name a file on this machine"),
        ("serve --model_base_path=BASE --prot=1", 2, "No such option: --prot"),
        ("serve --model_base_path=BASE --enable_batching", 2, "No such option: --enable_batching"),
        ("serve --model_bas=BASE", 2, "No such option: --model_bas"),
        ("serve --model_base_path=BASE --rest_api_port=70000", 2, "less than or equal to 65535"),
        ("serve --model_base_path=BASE --rest_api_timeout_in_ms=0", 2, "than or equal to 1"),
        ("serve --model_base_path=BASE --port=x", 2, "valid integer"),
        ("serve --model_base_path=BASE --log-share=2", 2, "less than or equal to 1"),
        ("serve --model_base_path=BASE --model_name=", 2, "a model needs a name"),
        ("serve --model_base_path=gs://b/m", 2, "an absolute path of a folder on this machine"),
        ("serve --model_base_path=BASE/file", 2, "is a folder. Received a file"),
        ("serve --model_config_file=file", 2, "No such option: --model_config_file"),
        ("serve OUT --model_base_path=BASE", 2, "Leave out OUT, --examples and --corrections"),
        ("rollback versions", 5, "intact as a run published it"),
        ("check . --html -", 2, "--html takes the name of a file"),
        ("check nowhere", 2, "nowhere"),
        ("check PHOTOS --set judge.store=file", 5, "file"),
        ("check tfds:no_such_set", 2, "tfds:no_such_set"),
        ("demo --out file", 5, "file"),
        ("init ''", 2, "source of the images is empty"),
        ("runs --json .", 2, "--json . is a folder. Name a file"),
        ("explain a.png b.png", 2, "there is no file a.png, b.png"),
        ("explain --layer nosuch", 2, "Missing argument 'IMAGE"),
        ("explain versions", 2, "The folder versions contains no files"),
        ("predict missing.jpg", 2, "missing.jpg: there is no such file"),
        ("predict IMAGE --server 127.0.0.1:9 --timeout 2", 5, "127.0.0.1:9"),
    ],
)
def test_what_cannot_be_ends_with_a_sentence_before_any_work(
    photos: Path, tmp_path: Path, line: str, code: int, expected: str
):
    (tmp_path / "file").write_text("")
    (tmp_path / "versions" / "model" / "1").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    image = str(next(photos.rglob("*.png")))
    places = {"PHOTOS": str(photos), "IMAGE": image, "BASE": str(tmp_path)}
    words = shlex.split(line)
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    result = imgpipe(*words, cwd=tmp_path)
    assert result.returncode == code, result.stdout + result.stderr
    assert expected in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr and "loading" not in result.stdout
    assert sorted(tmp_path.rglob("*")) == before, "nothing was begun"


def test_a_model_that_is_no_folder_is_said_whether_or_not_a_server_answers(photos: Path):
    """The usual address is asked, at which another program of this machine may answer."""
    image = str(next(photos.rglob("*.png")))
    result = imgpipe("predict", image, "--model", "imgpipe-ou", "--timeout", "1")
    assert result.returncode in (2, 5)
    assert "There is no folder 'imgpipe-ou', so" in " ".join(result.stderr.split())


def test_a_folder_that_may_not_be_entered_is_named(monkeypatch: pytest.MonkeyPatch):
    """The superuser may enter every folder, so that the error is raised in place of a command."""

    def app(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "/shut/out")

    monkeypatch.setattr("imgpipe.pipeline.application.app", app)
    result = imgpipe("doctor")
    assert result.returncode == 5, result.stderr
    assert "no permission for /shut/out: Permission denied. Give this user" in result.stderr


def test_init_writes_toml_whatever_the_names_of_classes_and_file(tmp_path: Path):
    for label in ("a\n[run]", "b\x01\x1b[31m"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "1.jpg").write_bytes(label.encode())
    result = imgpipe("init", "photos", "-o", "x\ny.toml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    written = tomllib.loads((tmp_path / "x\ny.toml").read_text())
    assert written["data"]["source"] == str(tmp_path / "photos")
    assert r"a\n[run] 1, b\x01\x1b[31m 1" in result.stdout


def test_doctor_checks_this_machine():
    result = imgpipe("doctor")
    assert result.returncode == 0, result.stdout
    names = ("Python", "packages", "processor", "memory", "disk", "backbones", "weights")
    for name in names:
        assert name in result.stdout


def test_init_describes_an_archive_and_a_list(photos: Path, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(photos.rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path).as_posix())
        archive.writestr("../outside.png", b"x")
    made = imgpipe("init", str(tmp_path / "set.zip"), "-o", str(tmp_path / "c.toml"))
    assert made.returncode == 0, made.stderr
    assert "noted      1 file whose name leads elsewhere (../outside.png)" in made.stdout
    rows = [
        f"{file.relative_to(tmp_path).as_posix()},{file.parent.name},{file.stem}"
        for file in sorted(photos.rglob("*.png"))
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,group", *rows, "gone.png,ü,9"]))
    listed = imgpipe("init", str(tmp_path / "list.csv"), "-o", str(tmp_path / "l.toml"))
    assert "17 files in 2 classes" in listed.stdout, listed.stderr
    assert "groups     9, each of which stays in one split" in listed.stdout


def test_all_messages_can_be_printed_on_an_ascii_terminal():
    """Symbols and file names that an ASCII terminal cannot show are written as escapes."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = (sys.executable, "-m", "imgpipe.pipeline.cli", "runs", "\u00fc")
    said = python_program.ran(*words, code=5, **ascii_only).stderr
    assert said.isascii() and "Traceback" not in said


def test_every_command_shows_examples_that_its_options_allow():
    assert len(commands()) > 15
    for name, command in commands().items():
        heading, *examples = [line.strip() for line in (command.epilog or "").splitlines() if line]
        examples = [line for line in examples if line]
        assert heading == "Examples:" and examples, f"{name} --help has no examples"
        assert any(line.startswith(f"{name} ") or line == name for line in examples), name
        for line in examples:
            target, words = command_of(line)
            with target.make_context(name, words, parent=None) as context:
                assert context.params is not None


def test_every_json_has_a_schema_number() -> None:
    with_json = {
        name.removeprefix("imgpipe ")
        for name, command in commands().items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert with_json == set(FORMATS)
    for command, kind in FORMATS.items():
        item = typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind
        for one in typing.get_args(item) or (item,):
            fields = getattr(one, "model_fields", one.__annotations__)
            assert {"schema", "schema_"} & set(fields), command


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
