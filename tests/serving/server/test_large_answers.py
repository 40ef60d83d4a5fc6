"""Answers that are larger than what clients of gRPC accept, to a model of many classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from imgpipe.serving.client import Client
from tests.serving.quick import ask, running

_CLASSES = [f"{number:03}-{'x' * 46}" for number in range(300)]
_ROWS = 300


@pytest.fixture(scope="module")
def many_classes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve an exported model of 300 classes as `imgpipe`, and yield `host:port`."""
    from imgpipe.models.export.saved_model import export, write_digest
    from imgpipe.models.network.classifier import build_classifier
    from imgpipe.models.settings.model import ModelSettings

    base: Path = tmp_path_factory.mktemp("many")
    settings = ModelSettings(backbone="conv_4_8", weights="none", image_size=24)
    classifier = build_classifier(None, _CLASSES, settings)
    export(classifier, str(base / "1"))
    write_digest(classifier, str(base / "1"))
    with running(base, "imgpipe") as server:
        yield server.target


def _request(images: list[bytes], outputs: tuple[str, ...] = ()) -> Any:
    return ask(model="imgpipe", outputs=outputs, image_bytes=images)


def test_a_client_with_the_limit_of_grpc_is_told_what_to_ask_for(many_classes, make_image):
    images = [make_image()] * _ROWS
    with grpc.insecure_channel(many_classes) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="The answer to 300 rows") as refused:
            stub.Predict(_request(images), 60)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        said = refused.value.details()
        assert f"The answer to {_ROWS} rows would have about 4." in said
        assert "Name the outputs that you need in output_filter, without classes" in said
        assert "name all outputs: classes, label, probabilities, top_k_classes" in said
        most = int(said.partition("send at most ")[2].split()[0])
        assert len(stub.Predict(_request(images[:most]), 60).outputs) == 5
        small = stub.Predict(_request(images, ("label", "probabilities")), 60)
        assert len(small.outputs["label"].string_val) == _ROWS


def test_who_names_all_outputs_gets_them(many_classes, make_image):
    every = ("classes", "label", "probabilities", "top_k_classes", "top_k_probabilities")
    with Client(many_classes) as client:
        images = np.array([make_image()] * _ROWS, object)
        answer = client.predict({"image_bytes": images}, output_filter=every)
    assert answer.outputs["classes"].shape == (_ROWS, len(_CLASSES))


def test_the_client_asks_for_the_names_of_the_classes_once(many_classes, make_image, monkeypatch):
    asked: list[tuple[str, ...]] = []
    predict = Client.predict

    def counted(self, inputs, signature_name="", output_filter=(), timeout=None):
        asked.append(tuple(output_filter))
        return predict(self, inputs, signature_name, output_filter, timeout)

    images = [make_image(seed) for seed in range(100)]
    with Client(many_classes) as client:
        whole = client.predict({"image_bytes": images})
        monkeypatch.setattr(Client, "predict", counted)
        answers = client.classify(images, top=3, at_once=1)
    assert asked == [(), *[("label", "probabilities")] * 3]
    best = whole.outputs["probabilities"].argmax(axis=1)
    assert [answer.label for answer in answers] == [_CLASSES[index] for index in best]
    assert all(len(answer.top) == 3 for answer in answers)
