"""The load generator: what it sends, when a level is stable, and how errors are counted."""

from __future__ import annotations

import json
import math
import threading
import time

import grpc
import pytest

from imgpipe.serving.client import (
    InvalidArgument,
    NotFound,
    Unavailable,
    load_generator,
    messages,
    protos,
)
from imgpipe.serving.client.load_generator import LoadSettings
from imgpipe.serving.client.messages import Servable
from imgpipe.serving.client.steps import Call

#: With this tolerance any three windows agree, so that no test fails on a busy machine.
QUICK = LoadSettings((1, 3), window_seconds=0.3, tolerance=1e6, most_windows=4)
#: A request that runs no model.
STATUS = Call(protos.STATUS, messages.status_request(Servable("m")), 30.0, False)


def test_each_caller_waits_for_its_answer_before_the_next_request(scripted):
    lock, now, most = threading.Lock(), [0], [0]

    def answer(method, request, context):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return b""

    target, _ = scripted(answer)
    heard = []
    one, three = load_generator.run(
        load_generator.connection(target), [STATUS], QUICK, heard.append
    )
    assert heard == [one, three]
    assert most[0] == 3, "callers wait for their answer"
    assert one.latency_ms["p50"] >= 20
    assert one.throughput <= 50
    assert one.throughput < three.throughput <= 150
    assert one.stable
    assert one.windows == 3
    assert one.errors == {}
    assert one.requests == pytest.approx(one.throughput * one.seconds)
    percentiles = [one.latency_ms[name] for name in ("p50", "p90", "p99", "max")]
    assert percentiles == sorted(percentiles)


def test_a_level_whose_windows_disagree_is_not_stable(scripted):
    target, _ = scripted(lambda *_: time.sleep(0.002) or b"")
    settings = LoadSettings((1,), window_seconds=0.2, tolerance=1e-9, most_windows=4)
    (level,) = load_generator.run(load_generator.connection(target), [STATUS], settings)
    assert (level.stable, level.windows) == (False, 4)


def test_windows_agree_when_throughput_and_p99_are_within_the_tolerance():
    def window(count, last=0.010, seconds=1.0):
        return load_generator.Window(
            [0.010] * (count - count // 20) + [last] * (count // 20), seconds
        )

    steady = [window(100), window(105), window(102)]
    assert load_generator.agree(steady, 0.1)
    assert not load_generator.agree(steady, 0.01)
    assert not load_generator.agree(steady[:2], 0.1), "three are compared"
    assert load_generator.agree([window(10), *steady], 0.1), "the last three"
    assert not load_generator.agree([*steady[:2], window(120)], 0.1), "throughput"
    assert not load_generator.agree([*steady[:2], window(100, last=0.030)], 0.1), "99th percentile"
    assert not load_generator.agree([*steady[:2], load_generator.Window([], 1.0)], 0.1), (
        "nothing answered"
    )


def test_errors_are_counted_and_not_retried(scripted):
    count = [0]

    def answer(method, request, context):
        count[0] += 1
        if count[0] > 20 and count[0] % 2:
            context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        return b""

    target, seen = scripted(answer)
    settings = LoadSettings((1,), window_seconds=0.3, tolerance=1e6, most_windows=3)
    (level,) = load_generator.run(load_generator.connection(target), [STATUS], settings)
    assert list(level.errors) == ["UNAVAILABLE"]
    assert level.errors["UNAVAILABLE"] > 3
    assert len(seen.seen) == count[0]
    assert level.requests + level.errors["UNAVAILABLE"] <= count[0]


def test_a_level_ends_when_the_server_refuses_every_request(scripted):
    count = [0]

    def answer(method, request, context):
        count[0] += 1
        if count[0] > 1:
            context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        return b""

    target, _ = scripted(answer)
    (level,) = load_generator.run(
        load_generator.connection(target), [STATUS], LoadSettings((2,), 0.2, 0.1, 12)
    )
    assert (level.windows, level.requests, level.stable) == (1, 0, False)
    assert level.latency_ms["p99"] is None
    assert level.errors["NOT_FOUND"] > 1


def test_a_missing_server_or_model_is_an_error(images):
    with pytest.raises(Unavailable, match="No model server is available"):
        load_generator.run(load_generator.connection("127.0.0.1:9"), [STATUS], QUICK)
    with pytest.raises(NotFound, match="nope"):
        load_generator.run(
            load_generator.connection(images), load_generator.image_calls([], "nope"), QUICK
        )


def test_images_go_in_batches_and_the_report_is_json(images, make_image):
    contents = [make_image(index) for index in range(5)]
    calls = load_generator.image_calls(contents, "imgpipe", batch=2)
    sent = [list(call.request.inputs["image_bytes"].string_val) for call in calls]
    assert sent == [contents[:2], contents[2:4], [contents[4], contents[0]]]
    levels = load_generator.run(load_generator.connection(images), calls, QUICK)
    report = load_generator.report(images, "imgpipe", 2, QUICK, levels)
    written = json.loads(json.dumps(report, allow_nan=False))
    assert written.keys() == report.keys()
    assert written["plan"]["concurrency"] == list(QUICK.concurrency)
    assert [level["concurrency"] for level in report["levels"]] == [1, 3]
    for level in report["levels"]:
        assert level["images_a_second"] == pytest.approx(2 * level["throughput"])
        assert level["errors"] == {}
        assert level["client_cores"] > 0


def test_a_request_may_have_no_deadline(images):
    calls = load_generator.image_calls([], "imgpipe", timeout=math.inf)
    way, plan = load_generator.connection(images, math.inf), LoadSettings((1,), 0.1, 1e6, 3)
    assert load_generator.run(way, calls, plan)[0].errors == {}


def test_the_default_image_of_noise_is_accepted_by_the_model(images):
    from imgpipe.serving.client import Client

    with Client(images) as client:
        assert client.classify([load_generator.noise(64)])[0].version == 7


def test_invalid_plans_are_refused():
    for words, arguments in (
        ("concurrency must be 1 or more", ((),)),
        ("concurrency must be 1 or more", ((1, 0),)),
        ("length of a window", ((1,), 0.0)),
        ("tolerance must be finite", ((1,), 1.0, 0.0)),
        ("tolerance must be finite", ((1,), 1.0, math.nan)),
        ("length of a window", ((1,), math.nan)),
        ("At least 3 windows", ((1,), 1.0, 0.1, 2)),
    ):
        with pytest.raises(InvalidArgument, match=words):
            LoadSettings(*arguments)
    with pytest.raises(InvalidArgument, match="batch must be 1 or more"):
        load_generator.image_calls([b"x"], "m", batch=0)
