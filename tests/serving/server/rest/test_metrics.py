"""The page for Prometheus has the names and labels of TensorFlow Serving."""

from __future__ import annotations

import http.client
import re

import grpc
from prometheus_client.parser import text_string_to_metric_families

from imgpipe.serving.server.rest.app import METRICS, OWN_METRICS

PREFIX = ":tensorflow:serving:"


def values(page: str) -> dict[str, float]:
    """Return the values of the page by metric name with labels."""
    lines = [line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_the_page_counts_requests_and_loads(rest):
    before = values(rest.get(METRICS).body.decode())
    rest.predict({"instances": [1]})
    rest.predict({"instances": ["x"]})
    for model in ("made-up-1", "made-up-2"):
        rest.predict({"instances": [1]}, model)
    answer = rest.get(METRICS)
    assert answer.headers["content-type"].startswith("text/plain")
    page = answer.body.decode()
    assert f"# TYPE {PREFIX}request_latency histogram" in page
    assert f"# TYPE {PREFIX}request_count counter" in page
    assert "# TYPE imgpipe_server_requests_total counter" in page
    counts = re.findall(r"^# TYPE (\S+) gauge$", page, re.MULTILINE)
    assert all(name.endswith("_created") for name in counts if name.startswith(":"))
    after = values(page)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown(f'{PREFIX}request_count{{model_name="half",status="OK"}}') == 1
    assert grown(f'{PREFIX}request_count{{model_name="half",status="INVALID_ARGUMENT"}}') == 1
    assert grown(f'{PREFIX}request_count{{model_name="",status="NOT_FOUND"}}') == 2
    labels = 'API="predict",entrypoint="REST",model_name="half"'
    assert grown(f"{PREFIX}request_latency_count{{{labels}}}") == 1
    assert grown(f"{PREFIX}request_latency_sum{{{labels}}}") > 0
    runtime = 'API="Predict",model_name="half",runtime="TF1"'
    assert grown(f"{PREFIX}runtime_latency_count{{{runtime}}}") == 1
    own = 'entrypoint="REST",model="half",signature="serving_default",status="OK",version="123"'
    assert grown(f"imgpipe_server_requests_total{{{own}}}") == 1
    (loaded,) = [name for name in after if "half/123" in name and "load_attempt" in name]
    assert loaded.endswith('half/123",status="success"}') and after[loaded] == 1
    bucket = r'request_latency_bucket\{API="predict".*?le="(\S+)",model_name="half"'
    limits = re.findall(bucket, page)
    assert limits[:2] == ["10.0", "18.0"] and limits[-1] == "+Inf" and len(limits) == 34
    timed = 'entrypoint="REST",model="half"'
    assert grown(f"imgpipe_server_request_duration_seconds_count{{{timed}}}") == 1
    families = {family.name: family.type for family in text_string_to_metric_families(page)}
    assert families[f"{PREFIX}request_latency"] == "histogram"


def test_the_own_metrics_follow_the_conventions_of_prometheus(rest):
    """The rules are those of promtool's linter that concern counts, times and names."""
    rest.predict({"instances": [1]})
    page = rest.get(OWN_METRICS).body.decode()
    families = list(text_string_to_metric_families(page))
    assert len(families) > 2
    for family in families:
        assert family.documentation
        assert re.fullmatch("(imgpipe_server|process)_[a-z_]+", family.name)
        is_counted = {sample.name.endswith("_total") for sample in family.samples}
        assert is_counted == {family.type == "counter"}, family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
    everything = rest.get(METRICS).body.decode()
    assert all(f"# TYPE {family.name}" in everything for family in families)


def test_the_gauges_tell_what_the_server_does_and_holds(rest, eventually):
    def value(name: str) -> float:
        return values(rest.get(OWN_METRICS).body.decode())[name]

    with grpc.insecure_channel(rest.server.target) as channel:
        grpc.channel_ready_future(channel).result(10)
        eventually(lambda: value('imgpipe_server_connections{port="grpc"}') >= 1)
    connections = [http.client.HTTPConnection("127.0.0.1", rest.port, timeout=10) for _ in "12"]
    for connection in connections:
        connection.request("GET", "/v1/health/live")
        connection.getresponse().read()
    found = values(rest.get(OWN_METRICS).body.decode())
    for connection in connections:
        connection.close()
    assert found['imgpipe_server_connections{port="rest"}'] >= 3
    assert found['imgpipe_server_version_available{model="half",version="123"}'] == 1
    assert found["imgpipe_server_requests_running"] == found["imgpipe_server_requests_waiting"] == 0
    assert found["process_resident_memory_bytes"] > 10 << 20
