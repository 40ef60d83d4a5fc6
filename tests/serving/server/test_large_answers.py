"""The client asks a model of many classes for their names once, as they are most of an answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgpipe.serving.client import Client
from tests.serving.quick import running

_CLASSES = [f"{number:03}-{'x' * 46}" for number in range(300)]


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
    assert asked == [(), *[("probabilities",)] * 3]
    best = whole.outputs["probabilities"].argmax(axis=1)
    assert [answer.label for answer in answers] == [_CLASSES[index] for index in best]
    assert all(len(answer.top) == 3 for answer in answers)
