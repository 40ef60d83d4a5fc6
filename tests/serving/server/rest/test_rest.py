"""The REST interface: formats, paths, errors, compression, CORS, limits, health and logs."""

from __future__ import annotations

import base64
import concurrent.futures
import gzip
import json
import threading
import time
import zlib
from collections import Counter

import numpy as np
import pytest
from imgpipe.serving.server.requests.handle import Handle

from imgpipe.serving.server.core import CoreOptions
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.server import ServerOptions
from imgpipe.serving.server.versions.config import ModelConfig, RequestLogConfig
from tests.serving.test_image_header import png_bomb


def b64(data: bytes) -> dict[str, str]:
    """Return bytes as the JSON object of TensorFlow Serving's REST API."""
    return {"b64": base64.b64encode(data).decode()}


def test_predict_by_row_and_by_column(rest):
    assert rest.predict({"instances": [1.0, 2.0, 5.0]}).json() == {"predictions": [2.5, 3.0, 4.5]}
    assert rest.predict({"inputs": {"x": [1, 2]}}).json() == {"outputs": [2.5, 3.0]}
    answer = rest.predict('{"inputs": [NaN, Infinity, -Infinity, 0.2]} trailing')
    assert answer.body.split() == b'{ "outputs": [ NaN, Infinity, -Infinity, 2.1 ] }'.split()
    assert answer.headers["content-type"] == "application/json"
    pair = {"signature_name": "pair", "inputs": {"a": [1, 2], "b": [3, 4]}, "unknown": [[]]}
    assert rest.predict(pair).json() == {
        "outputs": {"count": 2, "same": [1.0, 2.0], "sum": [4.0, 6.0]}
    }


def test_images_are_sent_as_base64_and_classified(rest, make_image):
    jpeg, png = make_image(1), make_image(2, "PNG")
    answer = rest.predict({"instances": [b64(jpeg), b64(png)]}, "imgpipe").json()
    named = rest.predict({"instances": [{"image_bytes": b64(jpeg)}]}, "imgpipe").json()
    first, _ = answer["predictions"]
    assert named["predictions"] == [first]
    assert first["classes"] == ["paper", "rock", "scissors"]
    assert first["label"] == first["classes"][int(np.argmax(first["probabilities"]))]
    assert rest.access[-1].rows == 1 and rest.access[-2].rows == 2


def test_status_and_metadata(rest):
    available = {
        "version": "123",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in ("", "/versions/123", "/labels/any"):
        answer = rest.get(f"/v1/models/half{path}")
        assert answer.json() == {"model_version_status": [available]}
        assert answer.body.startswith(b'{\n "model_version_status": [\n  {\n   "version": "123",')
        assert answer.body.endswith(b"\n ]\n}\n"), "a line of a terminal ends with it"
        assert answer.headers["content-type"] == "application/json"
    for path in ("", "/versions/123"):
        found = rest.get(f"/v1/models/half{path}/metadata").json()
        assert found["model_spec"] == {"name": "half", "signature_name": "", "version": "123"}
        signatures = found["metadata"]["signature_def"]["signature_def"]
        assert signatures["serving_default"]["inputs"]["x"] == {
            "dtype": "DT_FLOAT",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
            "name": "serving_default_x:0",
        }
        assert signatures["pair"]["method_name"] == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "words"),
    [
        ("POST", "models/nope:predict", {}, 404, "Servable not found for request: Latest(nope)"),
        (
            "POST",
            "models/half/versions/7:predict",
            {},
            404,
            "Servable not found for request: Specific(half, 7)",
        ),
        (
            "POST",
            "models/half/labels/x:predict",
            {},
            400,
            "Unrecognized servable version label: x",
        ),
        (
            "POST",
            "models/half:predict",
            {"signature_name": "n"},
            400,
            'Serving signature name: "n" not found in signature def',
        ),
        (
            "POST",
            "models/half:classify",
            {"signature_name": "n", "examples": [{}]},
            400,
            "No signature was found with the name: n",
        ),
        ("POST", "models/half:regress", {"examples": []}, 400, "'examples' value is an empty"),
        ("POST", "models/half:predict", "", 400, "JSON Parse error: The document is empty"),
        ("POST", "models/half:predict", b"\xff\xfe\x00", 400, "JSON Parse error: Invalid enc"),
        ("POST", "models/half:predict", {"instances": ["x"]}, 400, "not of expected type: float"),
        ("GET", "models/nope", None, 404, "Could not find any versions of model nope"),
        ("GET", "models/half/versions/7", None, 404, "Could not find version 7 of model half"),
        ("GET", "models/nope/metadata", None, 404, "Servable not found for request: Latest(nope)"),
        ("GET", "models", None, 400, "Missing model name in request."),
        ("GET", "models/half:predict", None, 400, "Malformed request: GET /v1/models/half:predict"),
        ("POST", "models/half?x=1", {}, 400, "Malformed request: POST /v1/models/half?x=1"),
        ("DELETE", "models/half", None, 400, "Malformed request: DELETE /v1/models/half"),
        ("OPTIONS", "models/half", None, 400, "Malformed request: OPTIONS /v1/models/half"),
    ],
)
def test_errors(rest, verb, path, body, status, words):
    answer = rest.ask(verb, f"/v1/{path}", body)
    assert answer.status == status
    assert words in answer.error()
    assert answer.headers["content-type"] == "application/json"


def test_unknown_paths_are_answered_404_without_a_body(rest):
    for path in ("/", "/index", "/v1", "/v3/models/half", "/favicon.ico"):
        answer = rest.get(path)
        assert (answer.status, answer.body) == (404, b"")


def test_errors_of_the_graph_have_the_messages_of_grpc(rest, make_image):
    broken = make_image()[:-40] + bytes(40)
    answer = rest.predict({"instances": [b64(b"no image")]}, "imgpipe")
    assert answer.status == 400 and "Unknown image file format" in answer.error()
    assert rest.predict({"instances": [b64(broken)]}, "imgpipe").status in (200, 400)
    assert rest.predict({"inputs": [b64(make_image())]}, "imgpipe").status == 200


def test_decompression_bombs_are_refused_by_their_header(rest, make_image):
    answer = rest.predict(
        {"instances": [b64(make_image()), b64(png_bomb(12_000, 12_000))]}, "imgpipe"
    )
    assert answer.status == 400 and "144.0 million pixels" in answer.error()


def test_requests_and_answers_can_be_compressed(rest):
    body = {"instances": list(range(2000))}
    packed = gzip.compress(json.dumps(body).encode())
    plain = rest.predict(body)
    assert "content-encoding" not in plain.headers
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "deflate, gzip"}
    answer = rest.predict(packed, headers=headers)
    assert answer.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in answer.headers["vary"]
    assert gzip.decompress(answer.body) == plain.body
    assert len(answer.body) < len(plain.body) / 2
    for accepted, compressed in (
        ("gzip;q=0", False),
        ("br, GZIP ; q=0.000, identity", False),
        ("gzip;q=0.5", True),
        ("x-gzip", True),
    ):
        answer = rest.predict(body, headers={"Accept-Encoding": accepted})
        assert ("content-encoding" in answer.headers) is compressed, accepted
    large = b'{"instances": [1]' + b" " * ((8 << 20) - 18) + b"}"  # pieces of a whole size
    assert rest.predict(gzip.compress(large), headers={"Content-Encoding": "gzip"}).status == 200
    members = gzip.compress(b'{"instances"') + gzip.compress(b": [1]}")
    headers = {"Content-Encoding": "gzip"}
    assert rest.predict(members, headers=headers).json() == {"predictions": [2.5]}
    for bad, words in (
        (packed[:-20], "is cut off"),
        (b"\x1f\x8b" + bytes(30), "is damaged"),
        (b"{}", "is damaged"),
    ):
        answer = rest.predict(bad, headers=headers)
        assert answer.status == 400 and words in answer.error()
    answer = rest.predict(packed, headers={"Content-Encoding": "br"})
    assert answer.status == 400 and "'br' is not known" in answer.error()


def test_cors_headers_are_sent_only_if_the_option_is_set(rest, serve):
    origin = {"Origin": "http://elsewhere"}
    answer = rest.predict({"instances": [1]}, headers=origin)
    assert answer.headers["access-control-allow-origin"] == "*"
    asked = origin | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = rest.ask("OPTIONS", "/v1/models/half:predict", headers=asked)
    assert answer.status == 200
    assert answer.headers["access-control-allow-methods"] == "POST, GET"
    assert "Content-Type" in answer.headers["access-control-allow-headers"]
    without = serve()
    answer = without.predict({"instances": [1]}, headers=origin)
    assert "access-control-allow-origin" not in answer.headers
    assert without.ask("OPTIONS", "/v1/models/half:predict", headers=asked).status == 400


def test_pages_of_other_sites_cannot_send_requests_unasked(rest, serve):
    server, body = serve(), {"instances": [1]}
    text = {"Content-Type": "text/plain"}
    foreign = text | {"Origin": "http://elsewhere"}
    answer = server.predict(body, headers=foreign)
    assert answer.status == 403 and "another site" in answer.error()
    own = text | {"Origin": f"http://127.0.0.1:{server.port}"}
    # Before a browser sends JSON, it asks the server, which refuses.
    asked = foreign | {"Content-Type": "application/json"}
    for headers in (text, own, asked):
        assert server.predict(body, headers=headers).status == 200
    assert rest.predict(body, headers=foreign).status == 200, "the option allows it"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://outside", "Host": "inside"},
        {"Content-Type": "Application/JSON", "Origin": "http://outside"},
        {"Origin": "http://h", "Host": "h:80"},
        {"Origin": "https://h", "Host": "h:443"},
    ],
)
def test_a_page_of_this_server_is_known_behind_a_proxy(serve, headers):
    server, body = serve(), {"instances": [1]}
    sent = {"Content-Type": "text/plain"} | headers
    assert server.predict(body, headers=sent).status == 200
    if "Host" in headers:
        other = sent | {"Host": "h:81", "Sec-Fetch-Site": "same-site"}
        assert server.predict(body, headers=other).status == 403


def test_answers_name_the_version_that_made_them(rest):
    assert rest.predict({"instances": [1]}).headers["model-version"] == "123"
    assert rest.get("/v1/models/half/metadata").headers["model-version"] == "123"
    packed = rest.predict({"instances": [1] * 2000}, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["model-version"] == "123"
    for path in ("/v1/models/half", "/v1/models/none/metadata"):
        assert "model-version" not in rest.get(path).headers
    asked = rest.predict({"instances": [1]}, headers={"Origin": "http://elsewhere"})
    assert asked.headers["access-control-expose-headers"] == "Model-Version"


def test_bodies_beyond_the_limit_are_refused(serve):
    server = serve(RestOptions(0, max_body_bytes=10_000))
    assert server.predict({"instances": [1.0] * 1000}).status == 200
    answer = server.predict({"instances": [1.0] * 5000})
    assert answer.status == 413 and "larger than" in answer.error()
    assert answer.headers["connection"] == "close"
    # A client that sends the whole body before it reads the answer gets the same status.
    answer = server.predict(b" " * (20 << 20))
    assert answer.status == 413
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(bytes(5_000_000)) + packer.flush()
    assert len(bomb) < 10_000
    answer = server.predict(bomb, headers={"Content-Encoding": "gzip"})
    assert answer.status == 413


def test_bodies_with_too_many_values_are_refused(serve):
    """The body is half a megabyte of gzip that decompresses to 98 MiB of numbers.

    Such a body once stopped every request for 15 s.
    """
    server = serve()
    bomb = gzip.compress(b'{"instances": [' + b"1," * (49 << 20) + b"1]}")
    assert len(bomb) < 1 << 20
    answer = server.predict(bomb, headers={"Content-Encoding": "gzip"})
    assert answer.status == 413 and "larger than 32 MiB" in answer.error()
    answer = server.predict(b'{"instances": [' + b"1," * 1_000_000 + b"1]}")
    assert answer.status == 413 and "more than 1,000,000 values" in answer.error()
    answer = server.predict(b'{"instances": [' + b"1," * 900_000 + b"1]}")
    assert answer.status == 200 and len(answer.json()["predictions"]) == 900_001


def test_the_limit_of_values_is_an_option(serve):
    server = serve(RestOptions(0, max_body_values=10))
    assert server.predict({"instances": [1.0] * 7}).status == 200
    assert server.predict({"instances": [1.0] * 8}).status == 200
    assert server.predict({"instances": [1.0] * 9}).status == 413


def test_large_bodies_do_not_occupy_every_thread(serve):
    server = serve(max_workers=4)
    large = b'{"instances": [' + b"0.125," * 900_000 + b"1]}"
    answers: list = []
    asking = [
        threading.Thread(target=lambda: answers.append(server.predict(large))) for _ in range(8)
    ]
    for thread in asking:
        thread.start()
    assert server.predict({"instances": [1]}).status == 200
    for thread in asking:
        thread.join()
    codes = Counter(answer.status for answer in answers)
    assert set(codes) == {200, 429} and codes[200] >= 2, codes
    refused = next(answer for answer in answers if answer.status == 429)
    assert "too many large requests at once" in refused.error()


def test_large_bodies_run_at_once_after_they_are_parsed(serve, monkeypatch):
    server = serve(max_workers=4)
    running, predict = threading.Barrier(4), Handle.predict

    def together(*args, **options):
        running.wait(5)
        return predict(*args, **options)

    monkeypatch.setattr(Handle, "predict", together)
    large = {"instances": [1], "padding": "x" * (1 << 20)}
    asked: list = []
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for number in range(4):
            while asked and running.n_waiting < number and not asked[-1].done():
                time.sleep(0.01)
            asked.append(pool.submit(server.predict, large))
        assert [future.result().status for future in asked] == [200] * 4


def test_deeply_nested_json_is_refused_and_the_server_still_answers(rest):
    for levels in (501, 5_000, 50_000, 500_000):
        deep = b'{"instances": ' + b"[" * levels + b"]" * levels + b"}"
        answer = rest.predict(deep)
        assert answer.status == 400 and "Nesting too deep" in answer.error()
    inside = b"[" * 498 + b"]" * 498
    assert rest.predict(b'{"instances": [1], "x": ' + inside + b"}").status == 200
    assert rest.predict({"instances": [1]}).status == 200


def test_the_graph_stops_at_the_time_limit(serve):
    server = serve(RestOptions(0, timeout=2))
    body = {"signature_name": "slow", "inputs": 0}
    assert server.predict(body).status == 200
    answer = server.predict(body | {"inputs": 300})
    assert answer.status == 504
    end = time.monotonic() + 60
    while server.server.core.busy():
        assert time.monotonic() < end, "the graph still runs"
        time.sleep(0.01)


def test_rest_shares_the_queue_of_grpc(serve):
    server = serve(max_workers=1, max_waiting=4)
    body = {"signature_name": "slow", "inputs": 0.25}
    server.predict(body)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        found = [pool.submit(server.predict, body) for _ in range(20)]
        time.sleep(0.1)
        assert server.get("/v1/health/ready").status == 200  # health is not queued
        answers = [future.result() for future in found]
    codes = Counter(answer.status for answer in answers)
    assert set(codes) == {200, 429} and 5 <= codes[200] <= 8
    refused = next(answer for answer in answers if answer.status == 429)
    assert "overloaded" in refused.error()
    assert server.predict(body).status == 200


def test_status_and_metadata_are_answered_while_all_threads_are_busy(serve):
    rest = serve(max_workers=1)
    slow = {"signature_name": "slow", "inputs": 0.9}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(rest.predict, slow)
        while not rest.server.core.busy():
            time.sleep(0.01)
        for path in ("", "/metadata", "/versions/3"):
            assert rest.get(f"/v1/models/half{path}").status == 200
            assert rest.get(f"/v1/models/none{path}").status == 404
        assert not running.done(), "the only thread was busy all the time"
        assert running.result().status == 200


def test_the_status_follows_the_versions(serve, push, tmp_path, eventually):
    rest = serve(core=CoreOptions(poll_seconds=0.1))
    assert rest.get("/v1/models/half/metadata").headers["model-version"] == "3"
    push("half_plus_three", tmp_path / "half", 4)

    def states():
        found = rest.get("/v1/models/half").json()["model_version_status"]
        return [(line["version"], line["state"]) for line in found]

    eventually(lambda: states() == [("4", "AVAILABLE"), ("3", "END")])
    assert rest.get("/v1/models/half/metadata").json()["model_spec"]["version"] == "4"


def test_health_follows_the_models(rest, tmp_path):
    from imgpipe.serving.server import ModelServer

    for version in ("v1", "v2"):
        for what in ("live", "ready"):
            answer = rest.get(f"/{version}/health/{what}")
            assert (answer.status, answer.json()) == (200, {what: True})
    options = ServerOptions(rest=RestOptions(0))
    with ModelServer("m", tmp_path / "nothing", options=options) as server:
        empty = type(rest)(server)
        assert empty.get("/v1/health/live").status == 200
        answer = empty.get("/v1/health/ready")
        assert (answer.status, answer.json()) == (503, {"ready": False})


def test_rest_requests_are_in_the_access_log(serve, tmp_path):
    file = tmp_path / "access.jsonl"
    server = serve(access_log=str(file))
    server.predict({"instances": [1, 2]})
    server.predict("{")
    server.get("/v1/models/half")  # a request for the status is not logged
    good, bad = map(json.loads, file.read_text().splitlines())
    expected = {
        "method": "Predict",
        "entrypoint": "REST",
        "model": "half",
        "version": 3,
        "signature": "serving_default",
        "rows": 2,
        "request_bytes": 21,
        "status": "OK",
    }
    assert expected.items() <= good.items()
    assert good["peer"].startswith("127.0.0.1:") and good["ms"] >= good["model_ms"] > 0
    assert bad["status"] == "INVALID_ARGUMENT" and bad["message"].startswith("JSON Parse error")


@pytest.mark.parametrize(
    "body",
    [
        '{"instances": [{"\\ud800": 1}]}',
        json.dumps({"instances": [{"a" * 1_000_000: 1}]}),
        '{"signature_name": "\\ud800", "instances": [1]}',
        json.dumps({"signature_name": "a" * 1_000_000, "instances": [1]}),
    ],
    ids=["half a character", "long", "half a character as a signature", "long signature"],
)
def test_any_refused_request_has_a_short_line_in_the_access_log(serve, tmp_path, caplog, body):
    file = tmp_path / "access.jsonl"
    assert serve(access_log=str(file)).predict(body).status == 400
    (line,) = file.read_bytes().splitlines()
    assert json.loads(line)["status"] == "INVALID_ARGUMENT" and len(line) < 3000
    assert "Traceback" not in caplog.text


def test_rest_requests_are_in_the_request_log(push, tmp_path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    from imgpipe.serving.server import ModelServer

    from .conftest import Rest

    push("half_plus_two", tmp_path / "m", 3)
    log = RequestLogConfig(str(tmp_path / "log" / "r"), 1.0)
    config = ModelConfig("half", tmp_path / "m", request_log=log)
    with ModelServer(models=[config], options=ServerOptions(rest=RestOptions(0))) as server:
        server.wait_until_available(60)
        assert Rest(server).predict({"instances": [1, 2]}).status == 200
        (file,) = (tmp_path / "log").glob("*.tfrecord")
        (record,) = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    found = prediction_log_pb2.PredictionLog.FromString(record).predict_log
    assert tf.make_ndarray(found.request.inputs["x"]).tolist() == [1, 2]
    assert list(found.response.outputs["y"].float_val) == [2.5, 3.0]
    assert found.response.model_spec.version.value == 3
