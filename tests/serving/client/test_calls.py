"""The methods of the client against a real server, and their errors."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from PIL import Image

from imgpipe.serving.client import (
    Client,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Prediction,
    ServingError,
    Unavailable,
)
from imgpipe.serving.client.classifier import Classifier
from imgpipe.serving.server.server import ModelServer
from tests.pipeline import small_version
from tests.ports import free_port
from tests.serving.client.conftest import ask
from tests.serving.conftest import write_warm_up
from tests.serving.quick import photograph, quick, running

_CLASSES = [f"{number:03}-{'x' * 46}" for number in range(300)]


def test_predict_with_filter_version_and_signature(half):
    options = {"client": {"model": "half", "version": 123}}
    inputs = {"a": np.float32([1, 2]), "b": np.int64([3, 4])}
    answer = ask(half, "predict", inputs, "pair", ["sum"], **options)
    assert list(answer.outputs) == ["sum"]
    assert answer.outputs["sum"].tolist() == [4.0, 6.0]
    assert (answer.model, answer.version, answer.signature_name) == ("half", 123, "pair")


def test_every_error_says_what_is_wrong(half):
    x = {"x": np.float32([1])}
    with pytest.raises(NotFound, match=r"Latest\(nope\)") as e:
        ask(half, "predict", x, client={"model": "nope"})
    assert e.value.exit_code == 2
    with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
        slow = {"seconds": np.float32(0.9)}
        ask(half, "predict", slow, "slow", client={"model": "half"}, timeout=0.05)
    with pytest.raises(Unavailable, match=r"No model server is available at .*Start one") as e:
        ask("127.0.0.1:9", "status", client={"timeout": 5.0})
    assert e.value.exit_code == 5
    with pytest.raises(InvalidArgument, match="timeout must be a number of seconds"):
        ask(half, "status", client={"model": "half"}, timeout=-1)


def test_classify_bytes_paths_and_arrays(images, tmp_path):
    file = tmp_path / "ünïcode name.png"
    file.write_bytes(photograph(1, "PNG"))
    pixels = np.random.default_rng(2).integers(0, 255, (24, 20, 3), np.uint8)
    first, second, third, grey = ask(
        images, "classify", [photograph(0), file, pixels, pixels[:, :, 0]]
    )
    assert {a.version for a in (first, second, third, grey)} == {7}
    for again, one in (
        (ask(images, "classify", [Image.fromarray(pixels)])[0], third),
        (ask(images, "classify", pixels[None])[0], third),
        (ask(images, "classify", [str(file)], top=1)[0], second),
    ):  # the last digits depend on the size of the batch
        assert again.label == one.label
        assert again.probability == pytest.approx(one.probability, rel=1e-4)
    assert second.top[0] == (second.label, second.probability)
    assert sum(score for _, score in second.top) == pytest.approx(1.0, abs=1e-5)
    assert ask(images, "classify", []) == []


def test_classify_each_gives_an_answer_or_an_error_per_image(images, tmp_path):
    contents = [photograph(index) for index in range(70)]
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
    assert str(answers[3]).startswith("image 3: the file is no image, but text.")
    assert "gone.jpg: there is no such file" in str(answers[40])
    with pytest.raises(InvalidArgument, match="image 1: the file is empty"):
        ask(images, "classify", [contents[0], b""])
    assert sorted(heard) == [(0, 32), (32, 32), (64, 6)]
    alone = ask(images, "classify", [contents[39], contents[69]])
    for place, one in zip((39, 69), alone, strict=True):
        assert answers[place].label == one.label
        assert answers[place].probability == pytest.approx(one.probability, rel=1e-4)


class Counting(Classifier):
    """A model that notes how many requests it has at the same time at most."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.asked = 0

    def _predict_images(self, images, question):
        with self.lock:
            self.now += 1
            self.asked += 1
            self.most = max(self.most, self.now)
        time.sleep(0.05)
        with self.lock:
            self.now -= 1
        names = np.array([[b"a", b"b"]] * len(images), object)
        outputs = {"classes": names, "probabilities": np.float32([[0.2, 0.8]] * len(images))}
        return Prediction(outputs, "m", 1, "")


def test_at_most_at_once_requests_are_sent_at_the_same_time():
    model = Counting()
    assert len(model.classify([b"x"] * 300, at_once=3)) == 300
    assert (model.asked, model.most) == (10, 3)
    for name in ("at_once", "top"):
        with pytest.raises(InvalidArgument, match=f"{name} must be 1 or more. Received: 0"):
            model.classify([b"x"] * 300, **{name: 0})


def test_the_first_failure_cancels_the_remaining_requests(scripted):
    def answer(method, request, context):
        time.sleep(0.02)
        context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    target, seen = scripted(answer)
    with pytest.raises(NotFound, match="gone"):
        ask(target, "classify", [b"x"] * 3200)
    assert len(seen.seen) < 100


@pytest.mark.parametrize(
    ("options", "words"),
    [({"input_name": "nope"}, "nope"), ({"timeout": -1.0}, "timeout must be a number of seconds")],
)
def test_a_request_that_is_wrong_for_every_image_is_refused_as_a_whole(images, options, words):
    with pytest.raises(InvalidArgument, match=words):
        ask(images, "classify_each", [photograph(0)] * 8, **options)


def test_status_and_waiting(half):
    (state,) = ask(half, "status", client={"model": "half"})
    assert (state.version, state.state) == (123, "AVAILABLE")
    assert ask(half, "wait_until_available", 30, client={"model": "half"}) == 123
    with pytest.raises(DeadlineExceeded, match=r"not available after 0\.3 s"):
        ask(half, "wait_until_available", 0.3, 9, client={"model": "half"})


def test_closing_a_client_ends_its_calls_with_an_error(half):
    client = Client(half, "half")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.predict, {"seconds": 1.0}, "slow")
        time.sleep(0.1)
        client.close()
        for call in (slow.result, client.status):
            with pytest.raises(ServingError, match="closed"):
                call()


def test_a_single_image_that_is_too_large_for_the_server_is_named(images):
    """Others of the same command are classified."""
    answers = ask(images, "classify_each", [photograph(0), b"\xff" * (70 << 20)])
    assert not isinstance(answers[0], InvalidArgument)
    assert "too large for the server" in str(answers[1])


def test_invalid_images_and_options_are_refused_before_sending(tmp_path):
    client = Client("localhost:1")
    with pytest.raises(InvalidArgument, match=r"nope\.jpg: there is no such file"):
        client.classify([tmp_path / "nope.jpg"])
    with pytest.raises(InvalidArgument, match="cannot be read as an image file"):
        client.classify([tmp_path])
    with pytest.raises(InvalidArgument, match="expects a list of images"):
        client.classify("cat.jpg")
    with pytest.raises(InvalidArgument, match="Received: int at index 0"):
        client.classify([3])
    with pytest.raises(InvalidArgument, match="above 0"):
        Client("localhost:1", timeout=0)


def test_large_messages_are_sent_and_received(half):
    values = np.arange(3_000_000, dtype=np.float32)  # 12 MB: three times gRPC's default limit
    with Client(half, "half") as client:
        result = client.predict({"x": values}).outputs["y"]
    np.testing.assert_array_equal(result, values / 2 + 2)


def test_wait_until_a_server_comes_up(models, push, tmp_path):
    port = free_port()
    push("half_plus_two", tmp_path, 5)
    client = Client(f"localhost:{port}", "half", wait_for_ready=True)
    with client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait_until_available, 30)
        time.sleep(0.3)  # no server is listening yet
        with ModelServer("half", tmp_path, quick(port=port)):
            assert waiting.result() == 5
            assert client.wait_until_available(30, version=5) == 5
            assert client.predict({"x": np.float32([2])}).outputs["y"].tolist() == [3.0]


def test_waiting_reports_why_a_version_failed_to_load(push, tmp_path):
    write_warm_up(push("unservable", tmp_path, 1), x=np.zeros((1, 4), np.float32))
    words = r"Version 1 .* failed to load: .*Could not find variable"
    with (
        ModelServer("m", tmp_path) as server,
        Client(server.target, "m") as client,
        pytest.raises(Unavailable, match=words),
    ):
        client.wait_until_available(30)


def test_every_grpc_status_code_has_an_error_with_an_exit_code(scripted):
    for code in (code for code in grpc.StatusCode if code is not grpc.StatusCode.OK):
        target, _ = scripted(lambda m, r, context, code=code: context.abort(code, "my words"))
        with pytest.raises(ServingError, match="my words") as error:
            ask(target, "status", client={"attempts": 1})
        assert error.value.code == code.name
        assert error.value.exit_code in (1, 2, 5)


def test_labels_and_probabilities_of_many_chunks_are_those_of_the_server(tmp_path):
    small_version.push(tmp_path, classes=_CLASSES)
    images = [photograph(seed) for seed in range(100)]
    with running(tmp_path / "model", "imgpipe") as server, Client(server.target) as client:
        whole = client.predict({"image_bytes": images})
        answers = client.classify(images, top=300, at_once=1)
    for answer, label, scores in zip(
        answers, whole.outputs["label"], whole.outputs["probabilities"], strict=True
    ):
        assert answer.label == label.decode()
        assert dict(answer.top) == pytest.approx(dict(zip(_CLASSES, scores, strict=True)))


@pytest.mark.parametrize("classes", [("fox", "wolf"), ("fox", "lynx", "wolf")])
@pytest.mark.parametrize("is_known", [False, True])
def test_after_a_restart_on_another_model_of_the_same_version_the_names_are_its_own(
    tmp_path, classes, is_known
):
    images = [photograph(seed) for seed in range(3)]
    small_version.push(tmp_path / "pets", classes=("cat", "dog"))
    small_version.push(tmp_path / "wild", classes=classes, near=images if is_known else ())
    port = free_port()
    with Client(f"127.0.0.1:{port}", wait_for_ready=True) as client:
        with running(tmp_path / "pets" / "model", "imgpipe", port=port):
            assert {answer.label for answer in client.classify(images)} <= {"cat", "dog"}
        with running(tmp_path / "wild" / "model", "imgpipe", port=port):
            answers = client.classify(images)
            served = client.predict({"image_bytes": images}).outputs["label"]
    assert {answer.version for answer in answers} == {1}, "as before the restart"
    assert [answer.label.encode() for answer in answers] == served.tolist()
    assert all({name for name, _ in answer.top} == set(classes) for answer in answers)
    assert all((answer.unlike is not None) == is_known for answer in answers)
