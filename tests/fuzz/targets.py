"""The readers that are fuzzed: the files that each is given, and what counts as an answer."""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgpipe.models.errors import ImgpipeError
from tests.fuzz import seeds, served, served_seeds

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """A reader that is fuzzed.

    Attributes:
        name: Name of the file that it reads. The file is in a folder of its own.
        read: Reads the file and returns a description, or refuses it with an exception of
            `refusals`.
        seeds: Yields the contents of valid files.
        refusals: Exceptions that count as answers.
    """

    name: str
    read: Callable[[Path], object]
    seeds: Callable[[], Iterator[bytes]]
    refusals: tuple[type[Exception], ...] = (ImgpipeError,)

    @property
    def corpus(self) -> Path:
        """Folder of the inputs that fuzzing kept."""
        return CORPUS / self.name

    def inputs(self) -> list[bytes]:
        """Return the valid files and all inputs that fuzzing kept."""
        kept = sorted(self.corpus.glob("*")) if self.corpus.is_dir() else []
        return [*self.seeds(), *(file.read_bytes() for file in kept)]

    def answer(self, data: bytes, folder: Path) -> str:
        """Return the description or the refusal of an input, without numbers and names.

        Exceptions that are not in `refusals` are not caught.
        """
        file = folder / self.name
        file.write_bytes(data)
        try:
            said = f"read: {self.read(file)}"
        except self.refusals as error:
            said = f"{type(error).__name__}: {error}"
        said = re.sub(r"'[^']*'|\"[^\"]*\"|/\S+|(?<=found ).*|Received: .*", "…", said)
        return re.sub(r"(0x)?\d[\d,.]*", "0", said)[:120]


def _source(file: Path) -> object:
    """Open an archive, a table or a TFRecord file as a source, and read all its images."""
    from imgpipe.components.example_gen.sources import open_source

    (file.parent / "2.jpg").touch()  # a list of which no file exists would be refused as a whole
    source = open_source(str(file))
    scan = source.scan()
    seen = set()
    for item in scan.items:
        try:
            source.read(item)
            seen.add("content" if item.label else "no label")
        except OSError as error:
            seen.add(error.strerror or str(error))
    return ", ".join([*sorted(seen), *sorted(note["reason"] for note in scan.notes)])


def _data_set(file: Path) -> object:
    """Scan a prepared TFDS data set, of which `file` is one of the two descriptions."""
    from imgpipe.components.example_gen.sources import SourceOptions, open_source

    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        prepared = Path(folder) / "toy" / "1.0.0"
        prepared.mkdir(parents=True)
        (prepared / "dataset_info.json").write_bytes(next(seeds.dataset_infos()))
        (prepared / "features.json").write_bytes(next(seeds.feature_descriptions()))
        (prepared / "toy-train.tfrecord-00000-of-00001").write_bytes(_records_of_a_data_set())
        shutil.copy(file, prepared)
        source = open_source("tfds:toy", SourceOptions(tfds_dir=folder))
        return [item.label for item in source.scan().items]


@functools.cache
def _records_of_a_data_set() -> bytes:
    """Return a TFRecord file for the TFDS data set, made once."""
    return next(seeds.records())


def _header(file: Path) -> object:
    """Read the header of an image with the reader of the pipeline and with that of the server."""
    from imgpipe.components.common.image_file.header import probe
    from imgpipe.serving.look import Look

    data = file.read_bytes()
    header = probe(Look(data), 1_000_000)
    served = Look(data).pixels
    return f"{header.format} {header.mode} {Look(data).refusal()[:20]} {not served}"


def _weights(file: Path) -> object:
    """Load a file of weights into a small network."""
    from imgpipe.models.backbones import network_copy

    return network_copy.load(_network(), file)


@functools.cache
def _network() -> Any:
    """Return the network for the files of weights, made once."""
    return seeds.network()


def _config(file: Path) -> object:
    """Load a configuration."""
    from imgpipe.pipeline.configuration import config

    return config.load(file).run.name


def _overrides(file: Path) -> object:
    """Load a file of overrides."""
    from imgpipe.components.image_filter.judge import overrides

    return ", ".join(sorted({override.verdict for override in overrides.load(file)}))


def _model_config(file: Path) -> object:
    """Read a model configuration of TensorFlow Serving."""
    from imgpipe.serving.server import settings
    from imgpipe.serving.server.settings import Settings

    return settings.of_settings(Settings(model_config_file=str(file))).versions


def _json(file: Path) -> object:
    """Read the body of a REST request, and write its values as an answer."""
    from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

    from imgpipe.serving.server.rest import json_tensors

    body = json_tensors.parse(file.read_bytes(), "")
    found = json_tensors.read(body, {"x": TensorInfo(dtype="DT_FLOAT")})
    return f"{found['x'].ndim} {len(json_tensors.write(found, by_row=False)) > 20}"


TARGETS = {
    target.name: target
    for target in (
        Target("x.zip", _source, seeds.zips),
        Target("x.tar", _source, seeds.tars),
        Target("x.tar.gz", _source, seeds.packed_tars),
        Target("x.tfrecord", _source, seeds.records),
        Target("dataset_info.json", _data_set, seeds.dataset_infos),
        Target("features.json", _data_set, seeds.feature_descriptions),
        Target("x.jsonl", _source, seeds.json_lines),
        Target("list.csv", _source, seeds.lists),
        Target("pixels.csv", _source, seeds.pixel_tables),
        Target("image", _header, seeds.images),
        Target("x.weights.h5", _weights, seeds.hdf5_weights),
        Target("x.keras", _weights, seeds.archives),
        Target("config.toml", _config, seeds.configs),
        Target("overrides.toml", _overrides, seeds.overrides),
        Target(
            "models.config", _model_config, seeds.model_configs, served.refusals_of_the_server()
        ),
        Target("body.json", _json, seeds.bodies, served.refusals_of_the_server()),
        Target("photo.jpg", served.inspected, seeds.images),
        Target("manifest.json", served.manifest, served_seeds.manifests),
        Target("schema.pbtxt", served.schema, served_seeds.schemas),
        Target("request.pb", served.request, served_seeds.requests, served.refusals_of_a_message()),
        Target("requests.tfrecord", served.request_log, served_seeds.request_logs),
        Target("reply.pb", served.reply, served_seeds.replies, served.refusals_of_the_client()),
        Target("review_answer.json", served.review_answer, served_seeds.review_answers),
    )
}
