"""The readers that are fuzzed: the files that each is given, and what counts as an answer.

Strangers may have made any of the files. Each reader takes one, and returns what is compared.
"""

import functools
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from imgpipe.models.errors import ConfigError, ImgpipeError
from imgpipe.serving.client import ServingError
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.tensors import TensorError

CORPUS = Path(__file__).parent / "corpus"
VALID = Path(__file__).parent / "valid"
_OF_THE_SERVER = (ConfigError, StatusError)


@dataclass(frozen=True)
class Target:
    """A reader that is fuzzed.

    Attributes:
        name: Name of the file that it reads. The file is in a folder of its own.
        read: Reads the file and returns a description, or refuses it with an exception of
            `refusals`.
        refusals: Exceptions that count as answers.
        kind: Name of the folder of its valid files, if it is another one.
    """

    name: str
    read: Callable[[Path], object]
    refusals: tuple[type[Exception], ...] = (ImgpipeError,)
    kind: str = ""

    @property
    def corpus(self) -> Path:
        """Folder of the inputs that fuzzing kept."""
        return CORPUS / self.name

    def valid(self) -> list[bytes]:
        """Return the contents of the valid files."""
        return _contents(VALID / (self.kind or self.name))

    def inputs(self) -> list[bytes]:
        """Return the valid files and all inputs that fuzzing kept."""
        return [*self.valid(), *_contents(self.corpus)]

    def answer(self, data: bytes, folder: Path) -> str:
        """Return the description or the refusal of an input, without numbers and names."""
        file = folder / self.name
        file.write_bytes(data)
        try:
            said = f"read: {self.read(file)}"
        except self.refusals as error:
            said = f"{type(error).__name__}: {error}"
        said = re.sub(r"'[^']*'|\"[^\"]*\"|/\S+|(?<=found ).*|Received: .*", "…", said)
        return re.sub(r"(0x)?\d[\d,.]*", "0", said)[:120]


def _contents(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.glob("*"))]


def _source(file: Path) -> object:
    """List an archive, a table or a TFRecord file, and read all its images."""
    from imgpipe.components.example_gen.sources import read_source

    (file.parent / "2.jpg").touch()  # a list of which no file exists would be refused as a whole
    images = read_source(str(file)).hashed()
    seen = set()
    for item in images.items:
        try:
            images.reader.read(item)
            seen.add("content" if item.label else "no label")
        except OSError as error:
            seen.add(error.strerror or str(error))
    return ", ".join([*sorted(seen), *sorted(finding["reason"] for finding in images.findings)])


def _data_set(file: Path) -> object:
    """Scan a prepared TFDS data set, of which `file` is one of the two descriptions."""
    from imgpipe.components.example_gen.sources import read_source
    from imgpipe.models.settings.data import DataSettings

    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        prepared = Path(folder) / "toy" / "1.0.0"
        prepared.mkdir(parents=True)
        for name in ("dataset_info.json", "features.json"):
            shutil.copy(sorted((VALID / name).iterdir())[0], prepared / name)
        records = VALID / "x.tfrecord" / "uncompressed"
        shutil.copy(records, prepared / "toy-train.tfrecord-00000-of-00001")
        shutil.copy(file, prepared)
        images = read_source("tfds:toy", DataSettings(tfds_dir=folder)).hashed()
        return [item.label for item in images.items]


def _header(file: Path) -> object:
    """Read the header of an image with the reader of the pipeline and with that of the server."""
    from imgpipe.components.common.image_file.header import probe
    from imgpipe.serving.look import Look

    data = file.read_bytes()
    header = probe(Look(data), 1_000_000)
    served = Look(data).pixels
    return f"{header.format} {header.mode} {Look(data).refusal()[:20]} {not served}"


def _weights(file: Path) -> object:
    from imgpipe.models.backbones import network_copy

    return network_copy.load(_network(), file)


@functools.cache
def _network() -> Any:
    """Return a network of two small layers, whose weights the valid files hold."""
    import keras

    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 1, name="conv")(pixels)
    return keras.Model(pixels, keras.layers.BatchNormalization(name="norm")(x), name="small")


def _config(file: Path) -> object:
    from imgpipe.pipeline.configuration import config

    return config.load(file).run.name


def _overrides(file: Path) -> object:
    from imgpipe.components.image_filter.judge import overrides

    return ", ".join(sorted({override.verdict for override in overrides.load(file)}))


def _json(file: Path) -> object:
    """Read the body of a REST request, and write its values as an answer."""
    from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

    from imgpipe.serving.server.rest import json_tensors

    body = json_tensors.parse(file.read_bytes(), "")
    found = json_tensors.read(body, {"x": TensorInfo(dtype="DT_FLOAT")})
    return f"{found['x'].ndim} {len(json_tensors.write(found, by_row=False)) > 20}"


def _manifest(file: Path) -> object:
    """Verify a version whose manifest is `file` and whose other files are undamaged."""
    from imgpipe.components.common.storage import manifest as manifests
    from imgpipe.models.files.described_files import version_damage
    from imgpipe.serving.server import storage

    with tempfile.TemporaryDirectory(dir=file.parent) as base:
        version = Path(base) / "1"
        version.mkdir()
        (version / "saved_model.pb").write_bytes(b"a graph")
        shutil.copy(file, version)
        found = version_damage(version, "all")
        read = [[*v.vocabulary, v.run_key, v.identity] for v in manifests.versions(Path(base))]
        withdrawn = len(manifests.withdrawn(Path(base)))
        try:
            storage.verify(version)
            verified = "verified"
        except (StatusError, OSError) as error:
            verified = type(error).__name__
        return f"{found[:30]} {len(read)} {withdrawn} {verified}"


def _schema(file: Path) -> object:
    from imgpipe.components.data_gate import schema as schemas

    return len(schemas.read(file).feature)


def _request(file: Path) -> object:
    from tensorflow_serving.apis import predict_pb2

    from imgpipe.serving import tensors

    message = predict_pb2.PredictRequest.FromString(file.read_bytes())
    return " ".join(tensors.to_array(tensor).dtype.name for tensor in message.inputs.values())


def _request_log(file: Path) -> object:
    """Read a request log as `imgpipe drift` does."""
    from imgpipe.components.example_gen.notes import Notes
    from imgpipe.pipeline.request_drift.logged_answers import LoggedAnswers

    notes = Notes()
    answers = list(LoggedAnswers(file).answers(notes))
    places = sorted(
        finding["reason"] + example["detail"][:12]
        for finding in notes.findings()
        for example in finding["examples"]
    )
    return f"{bool(answers)} {' '.join(places)}"


def _reply(file: Path) -> object:
    """Decode the same bytes as each kind of gRPC reply."""
    from imgpipe.serving.client import channel, messages

    def classified(data: bytes) -> object:
        answer = messages.prediction(channel.PredictResponse.FromString(data))
        return messages.classifications(answer, 1, 3, 0.5)

    readers: dict[str, Callable[[bytes], object]] = {
        "predict": classified,
        "status": lambda data: messages.statuses(channel.GetModelStatusResponse.FromString(data)),
    }
    said = []
    for name, reader in readers.items():
        try:
            reader(file.read_bytes())
            said.append(name)
        except (ServingError, DecodeError) as error:
            said.append(f"{name} {type(error).__name__} {str(error)[-30:]}")
    return ", ".join(said)


def _inspected(file: Path) -> object:
    """Read, decode and measure an image as ingestion does."""
    from imgpipe.components.example_gen.inspection import inspect
    from imgpipe.components.example_gen.sources import Item

    class Given:
        """A reader whose only image is `file`."""

        def read(self, item: Item) -> bytes:
            return file.read_bytes()

    (record,) = inspect(Given(), [Item("x.jpg", "a")], 1_000_000)  # type: ignore[arg-type]
    return f"{record.format} {record.mode} {record.is_measured} {record.decode_error}"


def _review_answer(file: Path) -> object:
    """Send `file` as an answer to the web page of a review."""
    from starlette.testclient import TestClient

    from imgpipe.pipeline.commands import review
    from imgpipe.pipeline.review import web
    from tests.pipeline.review import run_to_review

    with tempfile.TemporaryDirectory(dir=file.parent) as place:
        run = run_to_review.leave(Path(place) / "out", Path(place))
        prepared = review.prepare(run, None)
        client = TestClient(web.make_app(prepared), "http://localhost")
        headers = {web.TOKEN: prepared.token}
        content = file.read_bytes().replace(b"DIGEST", run_to_review.digest("cat/0.png").encode())
        answer = client.post("/review/answers", content=content, headers=headers).json()
        return f"{'error' in answer} {str(answer.get('error', ''))[:60]}"


TARGETS = {
    target.name: target
    for target in (
        Target("x.zip", _source),
        Target("x.tar", _source),
        Target("x.tar.gz", _source),
        Target("x.tfrecord", _source),
        Target("dataset_info.json", _data_set),
        Target("features.json", _data_set),
        Target("x.jsonl", _source),
        Target("list.csv", _source),
        Target("pixels.csv", _source),
        Target("image", _header),
        Target("x.weights.h5", _weights),
        Target("x.keras", _weights),
        Target("config.toml", _config),
        Target("overrides.toml", _overrides),
        Target("body.json", _json, _OF_THE_SERVER),
        Target("photo.jpg", _inspected, kind="image"),
        Target("manifest.json", _manifest),
        Target("schema.pbtxt", _schema),
        Target("request.pb", _request, (TensorError, DecodeError)),
        Target("requests.tfrecord", _request_log),
        Target("reply.pb", _reply, (ServingError, DecodeError)),
        Target("review_answer.json", _review_answer),
    )
}
