"""Valid files of every kind, from which fuzzing starts.

The files are small, and every call gives the same ones.
"""

import functools
import gzip
import hashlib
import io
import json
import random
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.images import encoded, exif

MODEL_CLASSES = ("cat", "dog", "owl")
_NAMES = [f"{'ab'[n % 2]}/{n}.jpg" for n in range(4)]


def zips() -> Iterator[bytes]:
    """Zip archives of a folder tree: compressed, uncompressed, and below a folder of a split."""
    for method, prefix in (
        (zipfile.ZIP_DEFLATED, ""),
        (zipfile.ZIP_STORED, ""),
        (zipfile.ZIP_DEFLATED, "set/train/"),
    ):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for number, name in enumerate(_NAMES):
                info = zipfile.ZipInfo(prefix + name)
                info.compress_type = method
                archive.writestr(info, random.Random(number).randbytes(40) * 3)
        yield out.getvalue()


def tars() -> Iterator[bytes]:
    """Tar archives of a folder tree with long names and a symbolic link, as PAX and as GNU."""
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for number, name in enumerate(_NAMES):
                info = tarfile.TarInfo(name.replace(".", f"é{'x' * 110 * (number % 2)}."))
                info.size = 60
                archive.addfile(info, io.BytesIO(random.Random(number).randbytes(60)))
            link = tarfile.TarInfo("a/link.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "../secret"
            archive.addfile(link)
        yield out.getvalue()


def packed_tars() -> Iterator[bytes]:
    """The archives of `tars`, compressed with gzip."""
    for content in tars():
        yield gzip.compress(content, mtime=0)


def records() -> Iterator[bytes]:
    """TFRecord files of images with labels, uncompressed and compressed."""
    import tensorflow as tf

    from imgpipe.components.common.storage.records import make, serialise

    with tempfile.TemporaryDirectory() as folder:
        for packing in ("", "GZIP"):
            place = f"{folder}/x{packing}"
            with tf.io.TFRecordWriter(place, tf.io.TFRecordOptions(packing)) as writer:
                for number in range(3):
                    values = {"image": bytes(30), "label": "ab"[number % 2], "path": "x/1.jpg"}
                    writer.write(serialise(make(values)))
            yield Path(place).read_bytes()


def json_lines() -> Iterator[bytes]:
    """Lists of image files as JSON Lines."""
    rows = [{"path": f"{n}.jpg", "label": "ab"[n % 2], "split": "train"} for n in range(3)]
    yield "\n".join(map(json.dumps, rows)).encode()
    odd = [{"path": "é/1.jpg", "label": 1.0, "group": None}, {"path": "2.jpg", "label": 2}]
    yield "\n".join(map(json.dumps, odd)).encode()


def lists() -> Iterator[bytes]:
    """Lists of image files as CSV tables."""
    yield b"path,label,group\n1.jpg,a,g\n2.jpg,b,\n"
    yield b'filename;class;split\n"1;.jpg";cat;val\n2.jpg;dog;train\n'


def pixel_tables() -> Iterator[bytes]:
    """A CSV table of pixels."""
    yield b"label,p1,p2,p3,p4\n" + b"".join(b"%d,7,8,9,255\n" % (n % 2) for n in range(3))


def images() -> Iterator[bytes]:
    """An image in every accepted format, with Exif data in JPEG, PNG and WebP."""
    image = Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "PCX", "JPEG2000", "QOI"):
        yield encoded(image, kind, **({"exif": exif(6)} if kind in ("JPEG", "PNG", "WEBP") else {}))


@functools.cache
def network() -> Any:
    """Return a network of two small layers with seeded random weights."""
    import keras

    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 1, name="conv")(pixels)
    return keras.Model(pixels, keras.layers.BatchNormalization(name="norm")(x), name="small")


def hdf5_weights() -> Iterator[bytes]:
    """The weights of `network` as HDF5."""
    with tempfile.TemporaryDirectory() as folder:
        network().save_weights(f"{folder}/x.weights.h5")
        yield Path(f"{folder}/x.weights.h5").read_bytes()


def archives() -> Iterator[bytes]:
    """The weights of `network` in a .keras archive with a fixed date."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        config = {"module": "keras", "class_name": "Functional", "config": {"name": "small"}}
        for name, content in (
            ("config.json", json.dumps(config).encode()),
            ("model.weights.h5", next(hdf5_weights())),
        ):
            archive.writestr(zipfile.ZipInfo(name), content)
    yield out.getvalue()


def configs() -> Iterator[bytes]:
    """Configurations of a run."""
    data = b'[data]\nsource = "photos"\nclasses = ["a", "b"]\n'
    yield b'[run]\nname = "x"\n' + data + b"[course]\nepochs = 3\n"
    yield b'[judge]\nmin_side = 16\n[judge.severity]\nblurry = "reject"\n'


def overrides() -> Iterator[bytes]:
    """A file with an override."""
    yield b'[[override]]\nimage_hash = "%s"\nverdict = "accept"\nnote = "x"\n' % (b"a1" * 32)


def bodies() -> Iterator[bytes]:
    """Bodies of REST requests."""
    yield b'{"instances": [[1.5, -2e3], [3, 0]], "signature_name": "serving_default"}'
    yield b'{"inputs": {"x": [[1]]}, "y": ["\\u00e9\\ud83d\\ude00", true, {"b64": "aGk="}]}'


def dataset_infos() -> Iterator[bytes]:
    """The description of a prepared TFDS data set with three records in one file."""
    split = {"name": "train", "numBytes": "500", "shardLengths": ["3"]}
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    for extra in ({}, {"filepathTemplate": template}):
        yield json.dumps(
            {
                "name": "toy",
                "version": "1.0.0",
                "fileFormat": "tfrecord",
                "moduleName": "toy.toy",
                "splits": [{**split, **extra}],
                "supervisedKeys": {
                    "tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}
                },
            }
        ).encode()


def feature_descriptions() -> Iterator[bytes]:
    """The description of the features of a prepared TFDS data set."""
    yield json.dumps(
        {
            "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
            "featuresDict": {
                "features": {
                    "image": {
                        "pythonClassName": "tensorflow_datasets.core.features.image_feature.Image",
                        "image": {
                            "shape": {"dimensions": ["-1", "-1", "3"]},
                            "dtype": "uint8",
                            "encodingFormat": "jpeg",
                        },
                    },
                    "label": {
                        "pythonClassName": (
                            "tensorflow_datasets.core.features.class_label_feature.ClassLabel"
                        ),
                        "classLabel": {"numClasses": "2"},
                    },
                }
            },
        }
    ).encode()


def manifests() -> Iterator[bytes]:
    """The manifest of a version with one file."""
    digest = hashlib.sha256(b"a graph").hexdigest()
    files = {"saved_model.pb": {"sha256": digest, "bytes": 7}}
    facts = {"vocabulary": list(MODEL_CLASSES), "run_key": "a1", "withdrawn": ["b2"]}
    yield json.dumps({"files": files, **facts}).encode()


def schemas() -> Iterator[bytes]:
    """An accepted schema with two features."""
    yield (
        b'feature { name: "width" type: INT presence { min_fraction: 1 }\n'
        b"  drift_comparator { jensen_shannon_divergence { threshold: 0.3 } } }\n"
        b'feature { name: "label" type: BYTES domain: "label" }\n'
        b'string_domain { name: "label" value: "a" value: "b" }\n'
    )


def _answer() -> dict[str, np.ndarray]:
    """Return the outputs of a model for one image."""
    probabilities = np.array([[0.7, 0.2, 0.1]], np.float32)
    classes = np.array([[name.encode() for name in MODEL_CLASSES]], object)
    return {"probabilities": probabilities, "classes": classes, "label": classes[:, 0]}


def requests() -> Iterator[bytes]:
    """Predict requests with strings and numbers, in both encodings of tensors."""
    from tensorflow_serving.apis import predict_pb2

    from imgpipe.serving import tensors

    for write in (tensors.fill_compact, tensors.fill_typed):
        message = predict_pb2.PredictRequest()
        message.model_spec.name = "m"
        write(message.inputs["image_bytes"], np.array([b"image"], object))
        write(message.inputs["x"], np.arange(6, dtype=np.float32).reshape(2, 3))
        write(message.inputs["n"], np.array([True, False]))
        yield message.SerializeToString(deterministic=True)


def request_logs() -> Iterator[bytes]:
    """A log of two requests with their images."""
    from tests.pipeline.request_drift.drawn import write_log

    with tempfile.TemporaryDirectory() as folder:
        answers = np.repeat(_answer()["probabilities"], 2, axis=0)
        (file,) = write_log(Path(folder) / "x", answers, [b"one", b"two"], classes=MODEL_CLASSES)
        yield file.read_bytes()


def replies() -> Iterator[bytes]:
    """Replies to Predict, GetModelStatus and GetModelMetadata."""
    from imgpipe.serving import tensors
    from imgpipe.serving.client import channel

    signatures = channel.SignatureDefMap()
    signatures.signature_def["s"].outputs["y"].dtype = 1
    described = channel.GetModelMetadataResponse()
    described.metadata["signature_def"].Pack(signatures)
    versions = channel.GetModelStatusResponse()
    versions.model_version_status.add(version=1, state=30)
    for reply in (described, versions):
        yield reply.SerializeToString(deterministic=True)

    message = channel.PredictResponse()
    message.model_spec.name = "m"
    for name, value in _answer().items():
        tensors.fill_typed(message.outputs[name], value)
    yield message.SerializeToString(deterministic=True)


def review_answers() -> Iterator[bytes]:
    """One answer of each kind in a review."""
    from tests.pipeline.review.run_to_review import digest

    for verdict, label in (("relabel", "dog"), ("", ""), ("reject", "")):
        answer = {"images": [digest("cat/0.png")], "verdict": verdict, "label": label}
        yield json.dumps(answer).encode()
