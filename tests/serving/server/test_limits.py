"""Limits of a running server for images, messages, queue and deadlines."""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import psutil
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from imgpipe.serving.server import limits, runtime
from imgpipe.serving.server.calls import Call, LongCall, SheddingPool
from imgpipe.serving.server.predict import Handle
from imgpipe.serving.server.status import Code, StatusError
from tests.images import encoded, noise
from tests.serving.quick import ask, running
from tests.serving.test_image_header import chunk, compressed_texts, many_scans, png_bomb


@pytest.fixture(scope="module")
def narrow(models, tmp_path_factory):
    """Serve half_plus_two as `m` with one thread, a queue of four, and 2 MiB in flight."""
    base = tmp_path_factory.mktemp("narrow")
    (base / "3").symlink_to(models / "half_plus_two", target_is_directory=True)
    few = {"grpc_max_threads": 1, "max_queued_requests": 4, "max_bytes_in_flight": 2 << 20}
    with running(base, **few) as server:
        yield server


@pytest.fixture
def stub(narrow):
    """Return the official stub of `narrow`, whose signature `slow` has run once."""
    with grpc.insecure_channel(narrow.target) as channel:
        made = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        made.Predict(ask("slow", seconds=np.float32(0)), timeout=30)
        yield made


def outcome(stub, request, timeout=30.0) -> str:
    """Return the name of the gRPC status code of a prediction."""
    try:
        stub.Predict(request, timeout=timeout)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


def test_the_parts_of_all_images_of_a_request_are_limited_together():
    """Each of the files alone is within the limits."""
    empty = Image.new("P", (1, 1))
    gif = encoded(np.asarray(empty.convert("RGB")), "GIF")
    comments = gif[:-1] + b"\x21\xf9" + b"\1\0" * 200_000 + b"\0" + gif[-1:]
    files = {
        "GIF": comments,
        "PNG": png_bomb(1, 1)[:8] + chunk(b"abCd", b"") * 200_000 + png_bomb(1, 1)[8:],
        "JPEG": b"\xff\xd8" + b"\xff\xe1\0\2" * 9_000 + encoded(noise(1, (8, 8)), "JPEG")[2:],
        "scans": many_scans(20)[:-2] + b"\xff\xd0" * 200_000,
    }
    for kind, file in files.items():
        assert limits.row_pixels("image_bytes", np.array([file], object), 1000) != [0], kind
        many = np.array([file] * 64, object)
        with pytest.raises(StatusError, match="images of the request have too many parts"):
            limits.row_pixels("image_bytes", many, 1000)
    photos = np.array([encoded(noise(1, (200, 200)), "JPEG")] * 64, object)
    assert limits.row_pixels("image_bytes", photos, 1_000_000) == [40_000] * 64


def test_a_jpeg_of_unusually_many_scans_counts_for_each_five_of_them():
    """Twelve clients with files of 13 kB and 100 scans held up another for five seconds."""
    for added, times in ((0, 1), (4, 1), (20, 5), (94, 20)):
        file = np.array([many_scans(added)], object)
        assert limits.row_pixels("image_bytes", file, 1000) == [256 * times], added


def test_scans_behind_the_image_or_in_a_preview_do_not_count():
    """A photograph with five megabytes of a film behind it counted 13 times."""
    preview = many_scans(20)
    photo = encoded(noise(1, (40, 40)), "JPEG", comment=preview) + preview
    assert limits.row_pixels("image_bytes", np.array([photo], object), 10_000) == [1600]
    cut = many_scans(20)[:-2] + b"\xff\xda\0"
    assert limits.row_pixels("image_bytes", np.array([cut], object), 1000) == [5 * 256]


def test_a_lossless_webp_counts_by_its_bytes_as_it_may_have_many_tables():
    """Twelve clients with files of 0.6 MB and a million pixels held up another for five seconds."""
    file = encoded(noise(1, (100, 100)), "WEBP", lossless=True)
    row = np.array([file], object)
    assert limits.row_pixels("image_bytes", row, 1_000_000) == [55 * len(file)]
    many = np.repeat(row, 100)
    assert len(limits.row_pixels("image_bytes", many, 100_000)) == 100, "of 1 million pixels"
    usual = np.array([encoded(noise(1, (100, 100)), "WEBP")], object)
    assert limits.row_pixels("image_bytes", usual, 1_000_000) == [10_000]


@pytest.mark.parametrize("kind", [object, np.uint8])
def test_an_array_without_values_has_one_row_whatever_its_shape_says(kind):
    """A request of 55 bytes took 36 seconds and 4 GB."""
    assert limits.row_pixels("image_bytes", np.zeros((1 << 40, 0), kind), 1000) == [0]


def test_a_decompression_bomb_is_refused_without_using_memory(images, make_image):
    good = ask(model="imgpipe", image_bytes=[make_image()])
    bomb = ask(model="imgpipe", image_bytes=[make_image(), png_bomb(12_000, 12_000)])
    many = ask(model="imgpipe", image_bytes=[png_bomb(7000, 7000)] * 60)
    with grpc.insecure_channel(images) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(good, timeout=30)
        process = psutil.Process()
        before = process.memory_info().rss
        for _ in range(20):
            with pytest.raises(grpc.RpcError, match=r"144\.0 million pixels") as error:
                stub.Predict(bomb, timeout=30)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError, match="have 2,940 million pixels; 2,000 million are"):
            stub.Predict(many, timeout=30)
        assert process.memory_info().rss - before < 64 << 20
        assert outcome(stub, good) == "OK"


@pytest.mark.parametrize("inside", [False, True])
def test_images_inside_examples_have_the_same_limit(inside):
    """Protobuf refuses a feature whose name is not UTF-8, and a graph accepts it."""
    data = png_bomb(12_000, 12_000)
    if inside:
        example = tf.train.Example()
        example.features.feature["image_bytes"].bytes_list.value.append(data)
        example.features.feature["zz"].bytes_list.value.append(b"door")
        data = example.SerializeToString().replace(b"zz", b"\xff\xfe")
    alias, value = "examples" if inside else "image_bytes", np.array([b"", data], object)
    with pytest.raises(
        StatusError, match=r"the image has 144\.0 million pixels; at most 50 million"
    ):
        limits.row_pixels(alias, value, 50_000_000)
    assert limits.row_pixels(alias, value, 200_000_000) == [0, 144_000_000]
    assert limits.row_pixels("names", value, 50_000_000) == [0, 0]


@pytest.mark.parametrize("nested", ["values", "features", "images", "numbers"])
def test_the_values_inside_of_examples_are_counted(nested):
    """Of 16 MB with 8 million empty values, 60 seconds and 2.2 GB were the price.

    The graph made 3 GB of 60 MB of packed numbers, which it then refused.
    """

    def field(number: int, content: bytes) -> bytes:
        length = len(content)
        head = [number << 3 | 2]
        while length > 0x7F:
            head.append(length & 0x7F | 0x80)
            length >>= 7
        return bytes([*head, length]) + content

    def example(values: bytes) -> bytes:
        feature = field(1, b"image_bytes") + field(2, field(1, values))
        return field(1, field(1, feature))

    many = 60_000
    rows = {
        "values": [example(b"\x0a\0" * many)] * 2,
        "features": [field(1, field(1, b"") * 2 * many)],
        "images": [example(b"\x0a\0" * 10)] * 12_000,
        "numbers": [field(1, field(1, field(2, field(3, field(1, bytes(2 * many))))))],
    }[nested]
    with pytest.raises(StatusError, match="more than 100,000 values") as error:
        limits.row_pixels("examples", np.array(rows, object), 50_000_000)
    assert error.value.code == Code.INVALID_ARGUMENT


def test_names_are_short(narrow):
    """Each copy of a name of 60 MB held up others, and a refusal that quotes it kept its memory."""
    of_model = predict_pb2.PredictRequest()
    of_model.model_spec.name = "m" * 5000
    of_input = predict_pb2.PredictRequest()
    of_input.inputs["x" * 5000].dtype = 7
    with grpc.insecure_channel(narrow.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for message in (of_model, of_input, predict_pb2.PredictRequest(output_filter=["y" * 5000])):
            with pytest.raises(grpc.RpcError, match="A name in the request has more than 4,096"):
                stub.Predict(message, timeout=30)


def test_pixels_that_are_decoded_already_count_like_those_of_files():
    """Six requests of 20 million pixels held up a photograph for seconds."""
    two = np.zeros((2, 10, 20, 3), np.uint8)
    assert limits.row_pixels("pixels", two, 50_000_000) == [600, 600]
    runtime, call = Counted(), Call("GRPC")
    runtime.signatures["serving_default"].inputs["image_bytes"].dtype = 4
    with pytest.raises(LongCall, match="a long request"):
        pixels = np.zeros((1, 3000, 3000, 3), np.uint8)
        Handle("m", 1, runtime, max_pixels=50_000_000).predict({"image_bytes": pixels}, call=call)


class Counted:
    """A runtime of a model of imgpipe, which notes how many rows it runs at once."""

    by_row = True

    def __init__(self, then=lambda: None) -> None:
        signature = tf.compat.v1.MetaGraphDef().signature_def["serving_default"]
        signature.inputs["image_bytes"].name, signature.inputs["image_bytes"].dtype = "x", 7
        signature.inputs["image_bytes"].tensor_shape.dim.add().size = -1
        signature.outputs["y"].name, signature.outputs["y"].dtype = "y", 9
        self.signatures, self.rows, self._then = {"serving_default": signature}, [], then

    def run(self, feeds, values, fetches):
        rows = len(values[0]) if values[0].ndim else 1
        self.rows.append(rows)
        self._then()
        return [np.arange(rows)]


def of_rows(*rows: bytes):
    """Return the inputs with these images."""
    return {"image_bytes": np.array(rows, object)}


def test_as_many_rows_run_at_once_as_take_a_tenth_of_a_second():
    fast, slow = Counted(), Counted(then=lambda: time.sleep(0.06))
    answer = Handle("m", 1, fast).predict(of_rows(*[b"x"] * 200))
    assert answer["y"].shape == (200,)
    assert fast.rows[:5] == [4, 8, 16, 32, 64] and sum(fast.rows) == 200
    Handle("m", 1, slow).predict(of_rows(*[b"x"] * 20))
    assert max(slow.rows) <= 12 and sum(slow.rows) == 20


def test_few_pixels_run_at_once():
    runtime, large, small = Counted(), png_bomb(4000, 6000), png_bomb(2000, 4000)
    handle = Handle("m", 1, runtime, max_pixels=50_000_000)
    handle.predict(of_rows(large, small, small, small, large))
    assert runtime.rows == [1, 2, 1, 1]


def test_rows_are_counted_before_anything_else():
    """A tensor of 61 kB held a million Examples, which took minutes to look at."""
    handle = Handle("m", 1, Counted(), max_pixels=50_000_000)
    bomb = png_bomb(12_000, 12_000)
    with pytest.raises(StatusError, match="20,000 rows; 16,384 are allowed"):
        handle.predict(of_rows(*[bomb] * 20_000))
    tensor = tf.make_tensor_proto([bomb] * 20_000)
    del tensor.string_val[1:]
    with pytest.raises(StatusError, match="20,000 rows; 16,384 are allowed"):
        handle.predict({"image_bytes": tensor})
    for shape in ((20_000, 1), (1, 20_000)):
        with pytest.raises(StatusError, match="20,000 rows; 16,384 are allowed"):
            handle.predict({"image_bytes": np.full(shape, bomb, object)})


@pytest.mark.parametrize("file", [many_scans(), compressed_texts()], ids=["JPEG", "PNG"])
@pytest.mark.parametrize("inside", [False, True])
def test_images_that_exhaust_a_decoder_are_refused(file, inside):
    alias = "image_bytes"
    if inside:
        example = tf.train.Example()
        example.features.feature["image_bytes"].bytes_list.value.append(file)
        alias, file = "examples", example.SerializeToString()
    value = np.array([b"", file], object)
    with pytest.raises(StatusError, match=r"the image has (.* scans|compressed texts)"):
        limits.check_hidden_costs({alias: value})
    limits.check_hidden_costs({"names": value})


def test_an_intact_jpeg_xl_file_is_refused_as_such():
    """TensorFlow would allocate the pixels that its header asks for."""
    file = b"\xff\x0a" + bytes(90)
    handle = Handle("m", 1, Counted(), max_pixels=50_000_000)
    said = "JPEG XL, a format that is not accepted. Save the image as JPEG or PNG."
    for rows, message in (([file], said), ([encoded(noise(1)), file], f"Row 1: {said}")):
        with pytest.raises(StatusError, match=f"^{message}$"):
            handle.predict(of_rows(*rows))


def test_messages_of_very_many_values_are_refused_before_they_are_parsed(narrow):
    """Thirty million empty strings took 1.6 GB."""
    empty = predict_pb2.PredictRequest()
    empty.inputs["x"].dtype = 7
    empty.inputs["x"].string_val.extend([b""] * 120_000)
    shape = predict_pb2.PredictRequest()
    for _ in range(120_000):
        shape.inputs["x"].tensor_shape.dim.add()
    outputs = predict_pb2.PredictRequest(output_filter=[""] * 120_000)
    with grpc.insecure_channel(narrow.target) as channel:
        raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        for message in (empty, shape, outputs):
            with pytest.raises(grpc.RpcError, match="more than 100,000 values") as error:
                raw(message.SerializeToString(), timeout=30)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_packed_numbers_are_limited_before_they_are_parsed(half):
    """Sixty megabytes took .4 s to parse, in which nothing else ran."""
    floats = ask(model="half")
    floats.inputs["x"].dtype = 1
    floats.inputs["x"].float_val.extend(range(900_000))
    floats.inputs["x"].tensor_shape.dim.add().size = 900_000
    numbers = ask(model="half")
    numbers.inputs["x"].dtype = 3
    numbers.inputs["x"].int_val.extend([1] * (9 << 20))
    with grpc.insecure_channel(half) as channel:
        raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError, match="more than 8 MiB of numbers in fields such as int"):
            raw(numbers.SerializeToString(), timeout=30)
        raw(floats.SerializeToString(), timeout=30)


def test_long_requests_leave_the_threads_to_short_ones():
    """Each of the long ones waits for all others, and there is one thread for short ones."""
    pool = SheddingPool(max_workers=1, max_waiting=0)
    released = threading.Event()

    def long(call: Call) -> str:
        if not call.is_long:
            raise LongCall(call)
        released.wait(30)
        return "long"

    async def scenario() -> None:
        calls = [Call("GRPC") for _ in range(5)]
        long_ones = [asyncio.create_task(pool.run(functools.partial(long, call))) for call in calls]
        await asyncio.sleep(0.1)
        assert await asyncio.wait_for(pool.run(lambda: "short"), 10) == "short"
        assert not any(task.done() for task in long_ones) and not pool.idle()
        released.set()
        assert await asyncio.gather(*long_ones) == ["long"] * 5
        assert pool.idle()

    asyncio.run(scenario())
    pool.shutdown()


def test_huge_requests_wait_for_each_other_and_hold_up_no_other():
    """Two of 64 MiB run at once: in memory, each takes several times its size."""
    pool = SheddingPool(max_workers=5, max_waiting=0)
    released = threading.Event()
    running: list[int] = []

    def huge(number: int) -> None:
        running.append(number)
        released.wait(30)

    async def scenario() -> None:
        tasks = [
            asyncio.create_task(pool.run(functools.partial(huge, number), 64 << 20))
            for number in range(5)
        ]
        assert await asyncio.wait_for(pool.run(lambda: "large", 20 << 20), 10) == "large"
        end = time.monotonic() + 30
        while pool.load() != (3, 2) and time.monotonic() < end:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert sorted(running) == [0, 1] and pool.load() == (3, 2)
        released.set()
        await asyncio.gather(*tasks)
        assert sorted(running) == [0, 1, 2, 3, 4] and pool.idle()

    asyncio.run(scenario())
    pool.shutdown()


def test_long_requests_take_turns_in_their_order():
    turns, order = limits.Turns(1), []

    def three_slices(name: str) -> None:
        for _ in range(3):
            with turns.turn():
                order.append(name)
                time.sleep(0.05)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(three_slices, "abc"))
    assert sorted(order[3:6]) == ["a", "b", "c"], "each runs once before one runs again"


def test_photographs_hold_up_no_small_image():
    """All waited for the same threads of TensorFlow, and a small image took seconds."""
    released = threading.Event()
    photographs, small = Counted(then=lambda: released.wait(30)), Counted()
    handle, photograph = Handle("m", 1, photographs, max_pixels=50_000_000), png_bomb(3000, 4000)
    at_once = runtime.calls_at_once()
    with ThreadPoolExecutor(at_once + 3) as pool:
        waiting = [
            pool.submit(handle.predict, of_rows(photograph), call=Call("GRPC"))
            for _ in range(at_once + 3)
        ]
        time.sleep(0.2)  # in which each of them would have begun
        begun = len(photographs.rows)
        image = of_rows(png_bomb(1000, 1000))
        answer = Handle("m", 1, small, max_pixels=50_000_000).predict(image, call=Call("GRPC"))
        released.set()
        assert [call.result(30)["y"].tolist() for call in waiting] == [[0]] * (at_once + 3)
    assert begun <= at_once and answer["y"].tolist() == [0]


def test_lines_of_the_pixels_of_one_image_are_not_taken_for_images():
    runtime = Counted()
    shape = runtime.signatures["serving_default"].inputs["image_bytes"].tensor_shape
    runtime.signatures["serving_default"].inputs["image_bytes"].dtype = 4
    for size in (-1, -1, 3):
        shape.dim.add().size = size
    handle = Handle("m", 1, runtime)
    one, several = Call("GRPC", is_long=True), Call("GRPC", is_long=True)
    handle.predict({"image_bytes": np.zeros((100, 100, 3), np.uint8)}, call=one)
    assert runtime.rows == [100] and one.rows == 1
    handle.predict({"image_bytes": np.zeros((100, 2, 2, 3), np.uint8)}, call=several)
    assert runtime.rows[1:] == [4, 8, 16, 32, 40] and several.rows == 100


def test_a_single_large_image_takes_its_turn_as_one_in_a_list_does():
    runtime, call = Counted(), Call("GRPC")
    handle = Handle("m", 1, runtime, max_pixels=50_000_000)
    alone = {"image_bytes": np.array(png_bomb(4000, 6000), object)}
    with pytest.raises(LongCall, match="a long request"):
        handle.predict(alone, call=call)
    handle.predict(alone, call=call)
    assert call.rows == 1 and runtime.rows == [1]


def test_between_two_slices_a_request_ends_if_nobody_waits():
    call = Call("GRPC")
    runtime = Counted(then=lambda: setattr(call, "is_abandoned", True))
    rows = of_rows(*[b"x"] * 1000)
    with pytest.raises(LongCall, match="a long request"):
        Handle("m", 1, runtime).predict(rows, call=call)
    with pytest.raises(StatusError, match="Cancelled") as error:
        Handle("m", 1, runtime).predict(rows, call=call)
    assert error.value.code == Code.CANCELLED and runtime.rows == [4]


@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_refused_before_they_are_unpacked(narrow, stub, kind):
    with pytest.raises(grpc.RpcError, match=r"Compression algorithm .* is disabled") as error:
        stub.Predict(ask(x=np.zeros(3 << 20, np.float32)), timeout=30, compression=kind)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError, match="Received message larger than max"):
        # This is the client's own limit of 4 MiB: the server has answered.
        stub.Predict(ask(x=np.zeros(3 << 20, np.float32)), timeout=30)


def test_a_full_queue_refuses_and_health_still_answers(narrow, stub):
    slow = ask("slow", seconds=np.float32(0.25))
    with ThreadPoolExecutor(30) as pool, grpc.insecure_channel(narrow.target) as channel:
        found = [pool.submit(outcome, stub, slow) for _ in range(30)]
        time.sleep(0.2)
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
        assert not all(future.done() for future in found)
        codes = Counter(future.result() for future in found)
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
    assert 5 <= codes["OK"] <= 8
    assert outcome(stub, slow) == "OK"


def test_the_total_size_of_requests_in_flight_is_limited(stub):
    """Each request and their number are within the limits, but their total size is not."""
    large = ask(x=np.zeros(1 << 17, np.float32))
    with ThreadPoolExecutor(21) as pool:
        slow = pool.submit(outcome, stub, ask("slow", seconds=np.float32(1.2)))
        time.sleep(0.2)
        found = [pool.submit(outcome, stub, large) for _ in range(20)]
        codes = Counter(future.result() for future in found)
        assert slow.result() == "OK"
    assert codes == {"OK": 3, "RESOURCE_EXHAUSTED": 17}
    assert outcome(stub, ask(x=np.zeros(1 << 19, np.float32))) == "OK", "alone, it may be larger"


def test_a_cancelled_request_in_the_queue_does_not_run(narrow, stub):
    seen = []
    narrow.calls.observers.append(seen.append)
    running = stub.Predict.future(ask("slow", seconds=np.float32(0.9)), timeout=30)
    time.sleep(0.1)
    waiting = [stub.Predict.future(ask(x=np.float32([1])), timeout=30) for _ in range(4)]
    time.sleep(0.1)
    for future in waiting:
        future.cancel()
    running.result()
    assert outcome(stub, ask(x=np.float32([1]))) == "OK"
    assert sum(call.signature == "serving_default" for call in seen) == 1


def test_the_number_of_prepared_sets_of_outputs_is_limited(models):
    """Clients choose the outputs."""
    session = runtime.Runtime(models / "half_plus_two")
    signature = session.signatures["pair"]
    feeds = [signature.inputs[name].name for name in ("a", "b")]
    fetches = [signature.outputs[name].name for name in ("count", "same", "sum")]
    for count in range(1, 2 * runtime.MAX_PREPARED + 10):
        wanted = [*itertools.islice(itertools.cycle(fetches), count)]
        assert len(session.run(feeds, [np.float32([1, 2]), np.int64([3, 4])], wanted)) == count
    assert session._prepared.cache_info().currsize <= runtime.MAX_PREPARED
    session.close()


def test_large_messages_keep_no_thread_of_small_requests(models, tmp_path):
    """Each of them is refused at once, after a pause in which others get their turn."""
    (tmp_path / "1").symlink_to(models / "half_plus_two", target_is_directory=True)
    large = ask(model="m", x=np.float32([1]))
    large.inputs["x"].int_val.extend([1] * (48 << 20))
    with (
        running(tmp_path, grpc_max_threads=1) as server,
        grpc.insecure_channel(server.target) as channel,
        ThreadPoolExecutor(4) as pool,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        refused = [pool.submit(outcome, stub, large) for _ in range(4)]
        small = Counter[str]()
        while not all(call.done() for call in refused):
            small[outcome(stub, ask(model="m", x=np.float32([1])))] += 1
        assert {call.result() for call in refused} == {"INVALID_ARGUMENT"}
        assert small.keys() == {"OK"} and small["OK"] >= 10
