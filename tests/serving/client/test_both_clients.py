"""The blocking and the asyncio client have the same API, answers, errors and order."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time

import numpy as np
import pytest

from imgpipe.serving.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
    Unavailable,
)


def test_both_clients_have_the_same_methods_and_signatures():
    def methods(kind):
        return {
            name: str(inspect.signature(method)).replace(kind.__name__, "Client")
            for name, method in vars(kind).items()
            if not name.startswith("_")
        }

    assert methods(Client) == methods(AsyncClient)
    assert inspect.signature(Client.__mro__[1]) == inspect.signature(AsyncClient.__mro__[1])
    for name in methods(AsyncClient):
        assert inspect.iscoroutinefunction(getattr(AsyncClient, name)), name


def test_predict_with_filter_version_and_signature(ask, half):
    options = {"client": {"model": "half", "version": 123}}
    inputs = {"a": np.float32([1, 2]), "b": np.int64([3, 4])}
    answer = ask(half, "predict", inputs, "pair", ["sum"], **options)
    assert list(answer.outputs) == ["sum"]
    assert answer.outputs["sum"].tolist() == [4.0, 6.0]
    assert (answer.model, answer.version, answer.signature_name) == ("half", 123, "pair")


def test_both_clients_raise_the_same_errors(ask, half):
    x = {"x": np.float32([1])}
    with pytest.raises(NotFound, match=r"Latest\(nope\)") as e:
        ask(half, "predict", x, client={"model": "nope"})
    assert e.value.exit_code == 2
    with pytest.raises(NotFound, match=r"\(half, 5\)"):
        ask(half, "predict", x, client={"model": "half", "version": 5})
    with pytest.raises(FailedPrecondition, match="not found"):
        ask(half, "predict", x, "nope", client={"model": "half"})
    with pytest.raises(InvalidArgument, match="not found in signature"):
        ask(half, "predict", x, "", ["z"], client={"model": "half"})
    with pytest.raises(InvalidArgument, match="label"):
        ask(half, "predict", x, client={"model": "half", "label": "stable"})
    with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
        ask(
            half,
            "predict",
            {"seconds": np.float32(0.9)},
            "slow",
            client={"model": "half"},
            timeout=0.05,
        )
    with pytest.raises(Unavailable, match=r"No model server is available at .*Start one") as e:
        ask("127.0.0.1:9", "status", client={"timeout": 5.0})
    assert e.value.exit_code == 5
    with pytest.raises(InvalidArgument, match="by version or by label"):
        ask(half, "status", client={"version": 1, "label": "stable"})
    with pytest.raises(InvalidArgument, match="timeout must be a number of seconds"):
        ask(half, "status", client={"model": "half"}, timeout=-1)


def test_classify_bytes_paths_and_arrays(ask, images, make_image, tmp_path):
    file = tmp_path / "ünïcode name.png"
    file.write_bytes(make_image(1, "PNG"))
    pixels = np.random.default_rng(2).integers(0, 255, (24, 20, 3), np.uint8)
    first, second, third, grey = ask(
        images, "classify", [make_image(0), file, pixels, pixels[:, :, 0]]
    )
    assert {a.version for a in (first, second, third, grey)} == {7}
    assert ask(images, "classify", pixels[None])[0] == third
    assert ask(images, "classify", [str(file)], top=1)[0].top == second.top[:1]
    assert second.top[0] == (second.label, second.probability)
    assert sum(score for _, score in second.top) == pytest.approx(1.0, abs=1e-5)
    assert ask(images, "classify", []) == []


def test_classify_each_gives_an_answer_or_an_error_per_image(ask, images, make_image, tmp_path):
    contents = [make_image(index) for index in range(70)]
    contents[3], contents[64] = b"no image", contents[64][:150]
    contents[40] = tmp_path / "gone.jpg"
    heard = []
    answers = ask(
        images,
        "classify_each",
        contents,
        progress=lambda start, some: heard.append((start, len(some))),
    )
    bad = {index for index, answer in enumerate(answers) if isinstance(answer, InvalidArgument)}
    assert bad == {3, 40, 64}
    assert str(answers[3]).startswith("image 3: Unknown image file format")
    assert "gone.jpg: there is no such file" in str(answers[40])
    assert sorted(heard) == [(0, 32), (32, 32), (64, 6)]
    alone = ask(images, "classify", [contents[39], contents[69]])
    for place, one in zip((39, 69), alone, strict=True):
        assert answers[place].label == one.label
        assert answers[place].probability == pytest.approx(one.probability, rel=1e-4)


def test_at_most_at_once_requests_are_sent_at_the_same_time(ask, scripted, make_image):
    """The largest number of simultaneous requests is exactly ``at_once``."""
    lock, now, most = threading.Lock(), [0], [0]

    def answer(method, request, context):
        from tensorflow_serving.apis import predict_pb2

        from imgpipe.serving import tensors

        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        count = len(predict_pb2.PredictRequest.FromString(request).inputs["image_bytes"].string_val)
        reply = predict_pb2.PredictResponse()
        reply.model_spec.version.value = 1
        tensors.fill_typed(reply.outputs["classes"], np.array([[b"a", b"b"]] * count, object))
        tensors.fill_typed(reply.outputs["probabilities"], np.float32([[0.2, 0.8]] * count))
        with lock:
            now[0] -= 1
        return reply.SerializeToString()

    target, seen = scripted(answer)
    answers = ask(target, "classify", [b"x"] * 300, at_once=3)
    assert len(answers) == 300
    assert len(seen.seen) == 10
    assert most[0] == 3
    for name in ("at_once", "top"):
        with pytest.raises(InvalidArgument, match=f"{name} must be 1 or more. Received: 0"):
            ask(target, "classify", [b"x"] * 300, **{name: 0})


def test_the_first_failure_cancels_the_remaining_requests(ask, scripted):
    import grpc

    def answer(method, request, context):
        time.sleep(0.02)
        context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    target, seen = scripted(answer)
    with pytest.raises(NotFound, match="gone"):
        ask(target, "classify", [b"x"] * 3200)
    assert len(seen.seen) < 100


def test_crop_and_ten_crop(ask, images, make_image):
    import io

    from PIL import Image

    content = make_image(5, "PNG")
    with Image.open(io.BytesIO(content)) as image:
        part = np.asarray(image.crop((2, 4, 18, 20)))
    cropped = ask(images, "classify", [content], crop="2,4,18,20")
    assert cropped == ask(images, "classify", [part])
    assert cropped == ask(images, "classify", [content], crop=(0.1, 4 / 24, 0.9, 20 / 24))
    from imgpipe.serving.client.images import Box, views_of

    views = views_of(content, Box(2, 4, 18, 20), ten_crop=True)
    each = ask(images, "classify", views)
    (mean,) = ask(images, "classify", [content], crop="2,4,18,20", ten_crop=True)
    for label, probability in mean.top:
        parts = [dict(one.top)[label] for one in each]
        assert probability == pytest.approx(np.mean(parts), abs=1e-5)
    assert sum(p for _, p in mean.top) == pytest.approx(1.0, abs=1e-4)


def test_ten_crops_of_many_images_keep_their_order(ask, images, make_image):
    contents = [make_image(index) for index in range(8)]
    together = ask(images, "classify", contents, ten_crop=True)
    for content, answer in zip(contents, together, strict=True):
        (alone,) = ask(images, "classify", [content], ten_crop=True)
        assert answer.label == alone.label
        assert answer.probability == pytest.approx(alone.probability, rel=1e-4)


def test_status_metadata_and_waiting(ask, half):
    (state,) = ask(half, "status", client={"model": "half"})
    assert (state.version, state.state) == (123, "AVAILABLE")
    metadata = ask(half, "metadata", client={"model": "half"})
    assert (metadata.model, metadata.version) == ("half", 123)
    assert {"serving_default", "pair", "slow"} <= set(metadata.signatures)
    x = metadata.signatures["serving_default"].inputs["x"]
    assert (x.dtype, x.shape) == ("float", (None,))
    assert ask(half, "wait_until_available", 30, client={"model": "half"}) == 123
    with pytest.raises(DeadlineExceeded, match=r"not available after 0\.3 s"):
        ask(half, "wait_until_available", 0.3, 9, client={"model": "half"})
    with pytest.raises(DeadlineExceeded, match="Unrecognized servable version label: stable"):
        ask(half, "wait_until_available", 0.3, client={"model": "half", "label": "stable"})


def test_reloading_is_refused_by_default(ask, half):
    with pytest.raises(PermissionDenied, match="not enabled"):
        ask(half, "reload", 'model_config_list { config { name: "a" base_path: "/a" } }')
    with pytest.raises(InvalidArgument, match="not the text of a ModelServerConfig"):
        ask(half, "reload", "models: here")


def test_calls_of_a_closed_client_are_refused(half):
    client = Client(half, "half")
    client.close()
    with pytest.raises(ServingError, match="is closed"):
        client.status()

    async def go():
        client = AsyncClient(half, "half")
        assert await client.status()
        await client.close()
        with pytest.raises(ServingError, match="is closed"):
            await client.status()

    asyncio.run(go())


def test_closing_a_client_ends_its_calls_with_an_error(half):
    async def go():
        client = AsyncClient(half, "half")
        slow = asyncio.create_task(client.predict({"seconds": 1.0}, "slow"))
        await asyncio.sleep(0.1)
        await client.close()
        with pytest.raises(ServingError, match="is closed"):
            await slow

    asyncio.run(go())


def test_the_client_still_works_after_a_task_was_cancelled(half):
    async def go():
        async with AsyncClient(half, "half") as client:
            slow = asyncio.create_task(client.predict({"seconds": np.float32(0.9)}, "slow"))
            await asyncio.sleep(0.1)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):  # noqa: PT011 - it has no message
                await slow
            x = {"x": np.float32([2])}
            assert (await client.predict(x)).outputs["y"].tolist() == [3.0]

    asyncio.run(go())


def test_a_single_image_that_is_too_large_for_the_server_is_named(ask, images, make_image):
    """Others of the same command are classified."""
    answers = ask(images, "classify_each", [make_image(0), b"\xff" * (70 << 20)])
    assert not isinstance(answers[0], InvalidArgument)
    assert "too large for the server" in str(answers[1])
