"""Lists of numbers, Pillow images and open files are converted to what a signature takes."""

from __future__ import annotations

import io

import grpc
import numpy as np
import pytest
from PIL import Image
from tensorflow_serving.apis import predict_pb2

from imgpipe.serving import tensors
from imgpipe.serving.client import Client, InvalidArgument, protos
from imgpipe.serving.client.transport import GrpcTransport
from tests.images import encoded

CLIENT = {"model": "half"}


def test_integers_of_a_list_are_converted_to_the_dtype_of_the_signature(half, ask):
    prediction = ask(half, "predict", {"x": [2, 4]}, client=CLIENT)
    assert prediction.outputs["y"].tolist() == [3.0, 4.0]
    assert ask(half, "predict", {"x": [2.0]}, client=CLIENT).outputs["y"].tolist() == [3.0]


def test_an_array_of_another_dtype_is_refused_instead_of_converted(half, ask):
    with pytest.raises(InvalidArgument, match="to be float but int32 is provided"):
        ask(half, "predict", {"x": np.array([2, 4], np.int32)}, client=CLIENT)


def test_the_signature_is_requested_only_once_and_only_if_it_is_needed(half, monkeypatch):
    calls, send = [], GrpcTransport.call

    def recorded(transport, call):
        calls.append(call.method)
        return send(transport, call)

    monkeypatch.setattr(GrpcTransport, "call", recorded)
    with Client(half, "half") as client:
        client.predict({"x": [2.0]})
        assert calls == [protos.PREDICT]
        for _ in range(2):
            client.predict({"x": [2]})
    kinds = [protos.PREDICT, protos.PREDICT, protos.METADATA, protos.PREDICT, protos.PREDICT]
    assert calls == kinds


def test_a_new_version_may_have_another_dtype(scripted):
    takes = [np.float64]

    def answer(method, request, context):
        if method == protos.METADATA.path:
            reply, signatures = protos.METADATA.response(), protos.SignatureDefMap()
            signature = signatures.signature_def["serving_default"]
            signature.inputs["x"].dtype = tensors.number_of(np.empty(0, takes[0]))
            reply.metadata["signature_def"].value = signatures.SerializeToString()
            return reply.SerializeToString()
        received = tensors.to_array(predict_pb2.PredictRequest.FromString(request).inputs["x"])
        if received.dtype != takes[0]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"received {received.dtype}")
        return b""

    target, _ = scripted(answer)
    with Client(target) as client:
        for kind in (np.float64, np.int32, np.float64):
            takes[0] = kind
            for _ in range(2):
                client.predict({"x": [2, 4]})
        takes[0] = np.uint8  # which no list of large numbers can become
        with pytest.raises(InvalidArgument, match="received"):
            client.predict({"x": [2, 400]})


def test_pillow_images_open_files_arrays_and_bytes_are_answered_the_same(images, ask, make_image):
    pixels = np.asarray(Image.open(io.BytesIO(make_image(3))).convert("RGB"))
    png = encoded(pixels)
    given = [
        png,
        io.BytesIO(png),
        Image.fromarray(pixels),
        Image.fromarray(pixels).convert("RGBA"),
        pixels,
    ]
    answers = ask(images, "classify", given)
    assert len({answer.probability for answer in answers}) == 1


def test_a_file_opened_as_text_is_refused(images, ask):
    with pytest.raises(InvalidArgument, match=r"opened in binary mode, as in open\(path, 'rb'\)"):
        ask(images, "classify", [io.StringIO("text")])


def test_ready_tells_whether_the_model_and_version_of_the_client_are_available(half, ask):
    assert ask(half, "ready", client=CLIENT) is True
    assert ask(half, "ready", client={"model": "other"}) is False
    assert ask(half, "ready", client={"model": "half", "version": 9}) is False
    assert ask(half, "ready", client={"model": "half", "label": "stable"}) is False
    assert ask("127.0.0.1:9", "ready", client={"timeout": 2.0}) is False
