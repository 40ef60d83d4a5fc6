"""The REST interface: formats, paths, errors, limits, pages of other sites, health and logs."""

import json
import shutil
import socket

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests import python_program
from tests.serving.quick import Rest, b64, eventually, photograph, running

TEXT = {"Content-Type": "text/plain"}


def test_predict_by_row_and_by_column(rest):
    assert rest.predict({"instances": [1.0, 2.0, 5.0]}).json() == {"predictions": [2.5, 3.0, 4.5]}
    answer = rest.predict({"inputs": {"x": [1, 2]}})
    assert answer.json() == {"outputs": [2.5, 3.0]}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["model-version"] == "123"
    pair = {"signature_name": "pair", "inputs": {"a": [1, 2], "b": [3, 4]}, "unknown": [[]]}
    assert rest.predict(pair).json() == {
        "outputs": {"count": 2, "same": [1.0, 2.0], "sum": [4.0, 6.0]}
    }


def test_images_are_sent_as_base64_and_classified(classifier):
    jpeg, png = photograph(1), photograph(2, "PNG")
    answer = classifier.predict({"instances": [b64(jpeg), b64(png)]}).json()
    named = classifier.predict({"instances": [{"image_bytes": b64(jpeg)}]}).json()
    first, _ = answer["predictions"]
    (alone,) = named["predictions"]
    assert alone["label"] == first["label"]
    assert alone["probabilities"] == pytest.approx(first["probabilities"], rel=1e-4)
    assert first["classes"] == ["paper", "rock", "scissors"]
    assert first["label"] == first["classes"][int(np.argmax(first["probabilities"]))]
    assert classifier.calls[-1].rows == 1 and classifier.calls[-2].rows == 2


def test_status_and_metadata(rest):
    status = {"error_code": "OK", "error_message": ""}
    available = {"version": "123", "state": "AVAILABLE", "status": status}
    for path in ("", "/versions/123", "/versions/000123"):
        answer = rest.get(f"/v1/models/half{path}")
        assert answer.json() == {"model_version_status": [available]}
        assert answer.headers["content-type"] == "application/json"
    for path in ("/v1/models/half", "/V1/models/%68alf/versions/123"):
        answer = rest.get(f"{path}/metadata")
        found = answer.json()
        assert answer.headers["model-version"] == "123"
        assert found["model_spec"] == {"name": "half", "signature_name": "", "version": "123"}
        signatures = found["metadata"]["signature_def"]["signature_def"]
        assert signatures["serving_default"]["inputs"]["x"] == {
            "dtype": "DT_FLOAT",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
            "name": "serving_default_x:0",
        }
    (half,) = rest.get("/v1/server/models").json()["models"]
    assert half == {"name": "half", "model_version_status": [available]}


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "words"),
    [
        ("POST", "models/nope:predict", {"inputs": 1}, 404, "Servable not found for request"),
        ("POST", "models/half/versions/7:predict", {"inputs": 1}, 404, "Specific(half, 7)"),
        ("POST", "models/half/labels/x:predict", {}, 400, "TensorFlow Serving has /labels/LABEL"),
        (
            "POST",
            "models/half:predict",
            {"inputs": 1, "signature_name": "n"},
            400,
            'key "n" not found',
        ),
        ("POST", "models/half:classify", {"examples": [{}]}, 400, "Expected: POST /v1/models/NAME"),
        ("POST", "models/half:predict", "", 400, "The body is empty, and no JSON"),
        ("POST", "models/half:predict", {"instances": ["x"]}, 400, "x is a tensor of float"),
        ("GET", "models/nope", None, 404, "Could not find any versions of model nope"),
        ("GET", "models/half/versions/7", None, 404, "Could not find version 7 of model half"),
        ("GET", "models/nope/metadata", None, 404, "Servable not found for request: Latest(nope)"),
        ("GET", "models", None, 400, "Missing model name in request. GET /v1/server/models"),
        ("GET", "models/half:predict", None, 400, "Malformed request: GET /v1/models/half:predict"),
        ("POST", "models/half?x=1", {}, 400, "Malformed request: POST /v1/models/half?x=1"),
        ("GET", "models/half/versions/" + "9" * 30, None, 400, "Malformed request"),
        ("DELETE", "models/half", None, 400, "Malformed request: DELETE /v1/models/half"),
        ("OPTIONS", "models/half:predict", None, 400, "Expected: POST /v1/models/NAME:predict"),
    ],
)
def test_errors(rest, verb, path, body, status, words):
    answer = rest.ask(verb, f"/v1/{path}", body)
    assert answer.status == status
    assert words in answer.error()
    assert answer.headers["content-type"] == "application/json"


def test_unknown_paths_are_answered_with_those_that_exist(rest):
    for path in ("/", "/index", "/v1", "/v2/models/half/infer", "/favicon.ico", "*"):
        answer = rest.get(path)
        assert answer.status == 404
        assert f"There is nothing at {path}. Expected: POST /v1/models/NAME" in answer.error()


_BODIES = {
    "a file of the format JPEG": ["--data-binary", "@photo.jpg"],
    "a form (multipart/form-data)": ["-F", "file=@photo.jpg"],
    "a form": ["-d", "image=photo.jpg&top=3"],
    "empty": ["-X", "POST"],
    'text that begins with "milk, eggs"': ["--data-binary", "milk, eggs"],
}


@pytest.mark.parametrize("kind", _BODIES)
def test_a_body_that_is_no_json_is_answered_with_a_command_that_works(classifier, tmp_path, kind):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (tmp_path / "photo.jpg").write_bytes(photograph())

    def printed(*words: str) -> dict:
        return json.loads(python_program.ran(*words, cwd=tmp_path).stdout)

    url = f"http://127.0.0.1:{classifier.port}/v1/models/imgpipe:predict"
    said = printed("curl", "--silent", *_BODIES[kind], url)["error"]
    assert said.startswith(f"The body is {kind}, and no JSON.")
    assert '{"instances": [{"b64": TEXT}]}' in said
    command = said.partition("A command that does: ")[2]
    assert not set(command) & {'"', "\\"}, "JSON would put a backslash before it"
    answer = printed("bash", "-c", command.replace("curl ", "curl --silent "))
    assert answer["predictions"][0]["label"] in ("paper", "rock", "scissors")


def test_a_text_in_place_of_an_image_is_answered_with_what_to_send(classifier):
    said = classifier.predict({"instances": ["photos/a.jpg"]}).error()
    assert said.startswith('the file is no image, but text. It begins with "photos/a.jpg".')
    assert "an object with the single key b64: no path, no link and no data URL" in said
    said = classifier.predict({"instances": [b64(b"milk, eggs")]}).error()
    assert said == 'the file is no image, but text. It begins with "milk, eggs".'
    said = classifier.predict(b'\xef\xbb\xbf{"instances": ["a"]}').error()
    assert said.startswith("the file is no image, but text."), "a mark of Windows is passed over"


def test_the_brackets_of_pixels_do_not_count_as_values(rest):
    pixels = {"instances": [[[[1, 2, 3]] * 384] * 384], "signature_name": "serving_default"}
    answer = rest.predict(pixels)
    assert answer.status == 200 and "predictions" in answer.json()


def test_bodies_beyond_the_limits_are_refused(rest):
    answer = rest.predict(b" " * (65 << 20))
    assert answer.status == 413 and "larger than 64 MiB" in answer.error()
    assert answer.headers["connection"] == "close"
    answer = rest.predict(b"{}", headers={"Content-Encoding": "gzip"})
    assert answer.status == 400 and "Received: Content-Encoding: gzip" in answer.error()
    assert "without this header" in answer.error()
    many = b'{"instances": [' + b"1," * 400_000 + b"1]}"
    assert len(rest.predict(many).json()["predictions"]) == 400_001
    keys = b'{"instances": [{' + b",".join(b'"%d":1' % key for key in range(100_000)) + b"}]}"
    for more in (many[:-2] + b"," + many[15:], b"[" * 500_000, b'{"a":' * 500_000, keys):
        answer = rest.predict(more)
        assert answer.status == 413 and "more than 450,000 values" in answer.error()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:PORT"}, 200),
        ({"Origin": "http://elsewhere"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost", "Host": "localhost:80"}, 200),
        ({"Origin": "https://[::1]", "Host": "[::1]:443"}, 200),
        ({"Origin": "http://localhost", "Host": "localhost:81", "Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "https://h", "Host": "localhost", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_of_other_sites_cannot_send_requests(rest, headers, status):
    sent = {name: value.replace("PORT", str(rest.port)) for name, value in headers.items()}
    answer = rest.predict({"instances": [1]}, headers=TEXT | sent)
    assert answer.status == status
    assert "access-control-allow-origin" not in answer.headers
    assert status == 200 or "another site" in answer.error()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "[::1", "10.0.0.1", ""])
def test_no_path_answers_a_name_of_another_site_that_leads_to_this_machine(rest, host):
    """A page there could otherwise read all answers (DNS rebinding)."""
    for path in (
        *("/", "/v1/models/half", "/v1/models/half/metadata", "/v1/server/models"),
        *("/v1/health/ready", "/monitoring/prometheus/metrics", "/nothing"),
    ):
        answer = rest.ask("GET", path, headers={"Host": host})
        assert answer.status == 403 and f"names the host {host!r}" in answer.error(), path
    assert rest.predict({"instances": [1]}, headers={"Host": host}).status == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("Images.example:8501", 200),
        ("a.b.cluster.local", 200),
        ("cluster.local", 200),
        ("evil-cluster.local", 403),
        ("images.example.evil", 403),
        (socket.gethostname(), 200),
        ("127.0.1.1:8501", 200),
        ("localhost.:8501", 200),
        ("cats.localhost:8501", 200),
        ("images.example.", 200),
        ("proxied.example", 200),
        ("localhost.evil", 403),
        ("evillocalhost", 403),
    ],
)
def test_allowed_hosts_are_answered(allowing, host, status):
    answer = allowing.ask("GET", "/v1/models/half", headers={"Host": host})
    assert answer.status == status
    assert status == 200 or f"the host '{host}'" in answer.error()
    assert status == 200 or "imgpipe serve --allowed-host NAME" in answer.error()


#: Two kinds of names, and one as people copy it out of an address.
_ALLOWED = "images.example, .CLUSTER.local, http://proxied.example:8501"


@pytest.fixture(scope="module")
def allowing(models, tmp_path_factory):
    """Serve half_plus_two to two kinds of names, on all networks of both protocols."""
    base = tmp_path_factory.mktemp("allowing")
    shutil.copytree(models("half_plus_two"), base / "half" / "1")
    hosts = {"allowed_hosts": _ALLOWED.split(", "), "host": "::"}
    with running(base / "half", "half", rest_api_port=-1, **hosts) as server:
        yield Rest(server)


def test_ipv4_addresses_of_a_socket_for_ipv6_are_this_machine(allowing):
    """The connection comes from ::ffff:127.0.0.1."""
    answer = allowing.ask("GET", "/v1/models/half", headers={"Host": "evil.example"})
    assert answer.status == 403


def test_any_host_is_answered_if_the_settings_say_so(serve):
    server = serve(allowed_hosts=["*"])
    assert server.ask("GET", "/v1/models/half", headers={"Host": "evil.example"}).status == 200


def test_a_signature_of_operations_cannot_be_asked(rest):
    answer = rest.predict({"signature_name": "__saved_model_init_op", "instances": [1]})
    assert answer.status == 400 and '"__saved_model_init_op" not found' in answer.error()


def test_the_graph_stops_at_the_time_limit(serve):
    server = serve(rest_api_timeout_in_ms=1000)
    body = {"signature_name": "slow", "inputs": 0}
    assert server.predict(body).status == 200
    answer = server.predict(body | {"inputs": 2})
    assert answer.status == 504 and "not answered within 1 s" in answer.error()
    eventually(lambda: server.predict(body).status == 200)


def test_rest_requests_are_in_the_request_log(serve, tmp_path):
    prefix = str(tmp_path / "log" / "r")
    server = serve(request_log_prefix=prefix, request_log_sampling_rate=1.0)
    assert server.predict({"instances": [1, 2]}).status == 200
    server.server.stop(5)
    (file,) = (tmp_path / "log").glob("*.tfrecord")
    (record,) = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    found = prediction_log_pb2.PredictionLog.FromString(record).predict_log
    assert tf.make_ndarray(found.request.inputs["x"]).tolist() == [1, 2]
    assert list(found.response.outputs["y"].float_val) == [2.5, 3.0]
    assert found.response.model_spec.version.value == 3
