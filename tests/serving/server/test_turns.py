"""Long requests run in slices and take turns, so that they hold up no short one."""

import asyncio
import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from imgpipe.serving.server import limits, runtime
from imgpipe.serving.server.calls import Call, LongCall, SheddingPool
from imgpipe.serving.server.predict import Handle
from imgpipe.serving.server.status import Code, StatusError
from tests.images import encoded, noise
from tests.serving.test_image_header import png_bomb


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


def test_an_intact_jpeg_xl_file_is_refused_as_such():
    """TensorFlow would allocate the pixels that its header asks for."""
    file = b"\xff\x0a" + bytes(90)
    handle = Handle("m", 1, Counted(), max_pixels=50_000_000)
    said = "JPEG XL, a format that is not accepted. Save the image as JPEG or PNG."
    for rows, message in (([file], said), ([encoded(noise(1)), file], f"Row 1: {said}")):
        with pytest.raises(StatusError, match=f"^{message}$"):
            handle.predict(of_rows(*rows))


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
