"""The page for Prometheus has the names and labels of TensorFlow Serving."""

import re

from prometheus_client.parser import text_string_to_metric_families

from imgpipe.serving.server.rest.app import METRICS

PREFIX = ":tensorflow:serving:"


def values(page: str) -> dict[str, float]:
    """Return the values of the page by metric name with labels."""
    lines = [line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_the_page_counts_requests(rest):
    before = values(rest.get(METRICS).body.decode())
    rest.predict({"instances": [1]})
    rest.predict({"instances": ["x"]})
    for model in ("made-up-1", "made-up-2"):
        rest.predict({"instances": [1]}, model)
    page = rest.get(METRICS).body.decode()
    assert f"# TYPE {PREFIX}request_latency histogram" in page
    assert f"# TYPE {PREFIX}request_count counter" in page
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
    bucket = r'request_latency_bucket\{API="predict".*?le="(\S+)",model_name="half"'
    limits = re.findall(bucket, page)
    assert limits[:2] == ["10.0", "18.0"] and limits[-1] == "+Inf" and len(limits) == 34
    families = {family.name: family.type for family in text_string_to_metric_families(page)}
    assert families[f"{PREFIX}request_latency"] == "histogram"


def test_prometheus_finds_the_same_page_and_the_memory_of_the_process(rest):
    answer = rest.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    page = answer.body.decode()
    assert f"# TYPE {PREFIX}request_count counter" in page
    assert values(page)["process_resident_memory_bytes"] > 10 << 20
