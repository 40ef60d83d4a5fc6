"""How images become requests: their sizes, their versions, and what a refusal means."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from imgpipe.serving import tensors
from imgpipe.serving.client import InvalidArgument, Unavailable, messages
from imgpipe.serving.client import images as image_module
from imgpipe.serving.client.operations import Operations
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.server import ServerOptions


def sent(request: bytes) -> list[bytes]:
    """Return the images of a PredictRequest."""
    return list(predict_pb2.PredictRequest.FromString(request).inputs["image_bytes"].string_val)


def classified_by(versions: Any) -> Callable[..., bytes]:
    """Return the answer of a server whose requests are answered by these versions in turn."""
    answering = iter(versions)

    def answer(method: str, request: bytes, context: Any) -> bytes:
        reply, count = predict_pb2.PredictResponse(), len(sent(request))
        reply.model_spec.version.value = next(answering)
        tensors.fill_typed(reply.outputs["classes"], np.array([[b"a", b"b"]] * count, object))
        tensors.fill_typed(reply.outputs["probabilities"], np.float32([[0.2, 0.8]] * count))
        return reply.SerializeToString()

    return answer


@pytest.fixture(params=["gRPC", "REST"])
def target(request, push, tmp_path):
    """Serve the image classifier and return the address of one of its interfaces."""
    push("images", tmp_path, 1)
    options = ServerOptions(rest=RestOptions(0))
    with ModelServer("imgpipe", tmp_path, options=options) as server:
        server.wait_until_available(60)
        yield server.target if request.param == "gRPC" else server.rest_target


def test_the_views_of_a_large_image_are_sent_in_several_requests(
    ask, target, make_image, monkeypatch
):
    whole = ask(target, "classify", [make_image(0)], ten_crop=True)
    answers, joined = [], messages.joined
    monkeypatch.setattr(messages, "joined", lambda some: answers.append(some) or joined(some))
    monkeypatch.setattr(image_module, "CHUNK_BYTES", 3000)  # a view has more than a thousand
    parts = ask(target, "classify", [make_image(0)], ten_crop=True)
    assert len(answers[0]) >= 5
    assert parts[0].label == whole[0].label
    assert parts[0].probability == pytest.approx(whole[0].probability, rel=1e-4)


@pytest.mark.parametrize("versions", [[1, 2, *[2] * 10], itertools.count(1)])
def test_all_views_of_an_image_are_answered_by_one_version(
    ask, scripted, make_image, monkeypatch, versions
):
    monkeypatch.setattr(image_module, "CHUNK_BYTES", 7000)
    address, _ = scripted(classified_by(versions))
    if isinstance(versions, list):
        assert ask(address, "classify", [make_image(0)], ten_crop=True)[0].version == 2
    else:
        with pytest.raises(Unavailable, match="Several versions of model 'imgpipe' answered"):
            ask(address, "classify", [make_image(0)], ten_crop=True)


class Stream:
    """A file that only tells its size by being read, as the body of an HTTP answer."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self) -> bytes:
        return self._content


@pytest.mark.parametrize("opened", [io.BytesIO, Stream])
def test_open_files_are_divided_among_requests_by_their_sizes(ask, scripted, monkeypatch, opened):
    monkeypatch.setattr(image_module, "CHUNK_BYTES", 250)
    address, seen = scripted(classified_by(itertools.repeat(1)))
    assert len(ask(address, "classify", [opened(b"x" * 100) for _ in range(6)])) == 6
    assert [len(sent(request)) for _, request in seen.seen] == [2, 2, 2]


def test_the_size_of_an_open_file_is_what_is_left_to_read():
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    assert image_module.size_of(file) == 6
    assert file.read() == b"456789"


@pytest.mark.parametrize(
    ("client", "options", "words"),
    [
        ({}, {"input_name": "nope"}, "nope"),
        ({}, {"timeout": -1.0}, "timeout must be a number of seconds"),
        ({"label": "nope"}, {}, "Unrecognized servable version label: nope"),
    ],
)
@pytest.mark.parametrize("count", [1, 8])
def test_a_request_that_is_wrong_for_every_image_is_refused_as_a_whole(
    ask, images, make_image, monkeypatch, client, options, words, count
):
    calls, call = [], Operations._call
    monkeypatch.setattr(
        Operations, "_call", lambda *given: calls.append(given[1].name) or call(*given)
    )
    with pytest.raises(InvalidArgument, match=words):
        ask(images, "classify_each", [make_image(0)] * count, client=client, **options)
    assert len(calls) <= 2


def test_a_wrong_signature_is_no_error_of_the_images_over_rest(ask, push, tmp_path, make_image):
    push("images", tmp_path, 1)
    options = ServerOptions(rest=RestOptions(0))
    with ModelServer("imgpipe", tmp_path, options=options) as server:
        server.wait_until_available(60)
        with pytest.raises(InvalidArgument, match="nope"):
            ask(server.rest_target, "classify_each", [make_image(0)] * 2, signature_name="nope")
