"""The page for Prometheus has the names, types, labels and text of TensorFlow Serving."""

from __future__ import annotations

import re
import shutil
from importlib import metadata

from imgpipe.serving.server.textproto import BatchingParameters, Monitoring
from imgpipe.serving.server.versions.loader import LoaderOptions, make_loader
from imgpipe.serving.server.versions.servable import LoadPolicy, Servable
from prometheus_client.parser import text_string_to_metric_families

from imgpipe.serving.server import storage
from imgpipe.serving.server.monitoring.metrics import Metrics
from imgpipe.serving.server.requests.calls import Call
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.status import Code

from .conftest import METRICS

PREFIX = ":tensorflow:serving:"
SHOWN = Monitoring(prometheus=True)
TYPES = {
    "imgpipe_server_build_info": "gauge",
    "imgpipe_server_request_seconds": "histogram",
    "imgpipe_server_requests_total": "counter",
    ":tensorflow:cc:saved_model:load_attempt_count": "counter",
    ":tensorflow:cc:saved_model:load_latency": "counter",
    ":tensorflow:core:graph_run_time_usecs": "counter",
    ":tensorflow:core:graph_runs": "counter",
    ":tensorflow:serving:batching_session:queuing_latency": "histogram",
    ":tensorflow:serving:batching_session:wrapped_run_count": "counter",
    ":tensorflow:serving:model_warmup_latency": "histogram",
    ":tensorflow:serving:request_count": "counter",
    ":tensorflow:serving:request_example_count_total": "counter",
    ":tensorflow:serving:request_example_counts": "histogram",
    ":tensorflow:serving:request_latency": "histogram",
    ":tensorflow:serving:runtime_latency": "histogram",
}


def values(page: str) -> dict[str, float]:
    """Return the values of the page by metric name with labels."""
    lines = [line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_the_page_counts_requests_and_loads(rest):
    before = values(rest.get(METRICS).body.decode())
    rest.predict({"instances": [1]})
    rest.predict({"instances": ["x"]})
    rest.predict({"instances": [1]}, "made-up-1")
    rest.predict({"instances": [1]}, "made-up-2")
    answer = rest.get(METRICS)
    assert answer.headers["content-type"].startswith("text/plain")
    page = answer.body.decode()
    assert dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M)) == TYPES
    assert "# HELP" not in page and "_created" not in page
    after = values(page)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown(f'{PREFIX}request_count{{model_name="half",status="OK"}}') == 1
    assert grown(f'{PREFIX}request_count{{model_name="half",status="INVALID_ARGUMENT"}}') == 1
    assert grown(f'{PREFIX}request_count{{model_name="",status="NOT_FOUND"}}') == 2
    labels = 'model_name="half",API="predict",entrypoint="REST"'
    assert grown(f"{PREFIX}request_latency_count{{{labels}}}") == 1
    assert grown(f'{PREFIX}request_latency_bucket{{{labels},le="+Inf"}}') == 1
    assert grown(f"{PREFIX}request_latency_sum{{{labels}}}") > 0
    runtime = 'model_name="half",API="Predict",runtime="TF1"'
    assert grown(f"{PREFIX}runtime_latency_count{{{runtime}}}") == 1
    assert grown(":tensorflow:core:graph_runs{}") == 1
    (loaded,) = [name for name in after if "half/123" in name and "load_attempt" in name]
    assert loaded.endswith('half/123",status="success"}') and after[loaded] == 1


def test_requests_are_counted_by_version_and_signature(rest):
    before = values(rest.get(METRICS).body.decode())
    rest.predict({"instances": [1]})
    rest.predict({"signature_name": "nope", "instances": [1]})
    rest.predict({"instances": [1]}, "made-up")
    after = values(rest.get(METRICS).body.decode())

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    own = 'model="half",version="123",signature="serving_default",entrypoint="REST"'
    assert grown(f'imgpipe_server_requests_total{{{own},status="OK"}}') == 1
    assert grown(f"imgpipe_server_request_seconds_count{{{own}}}") == 1
    failed = 'model="half",version="123",signature="",entrypoint="REST",status="INVALID_ARGUMENT"'
    assert grown(f"imgpipe_server_requests_total{{{failed}}}") == 1
    unknown = 'model="",version="",signature="",entrypoint="REST",status="NOT_FOUND"'
    assert grown(f"imgpipe_server_requests_total{{{unknown}}}") == 1
    (build,) = [name for name in after if name.startswith("imgpipe_server_build_info")]
    assert f'imgpipe="{metadata.version("imgpipe")}"' in build
    assert f'tensorflow="{metadata.version("tensorflow")}"' in build


def test_the_buckets_are_those_of_tensorflow_serving(rest):
    rest.predict({"instances": [1]})
    page = rest.get(METRICS).body.decode()
    limits = re.findall(
        r'request_latency_bucket\{model_name="half",API="predict".*?le="(\S+)"\}', page
    )
    assert limits[:6] == ["10", "18", "32.4", "58.32", "104.976", "188.957"]
    assert len(limits) == 34 and limits[-1] == "+Inf"


def test_the_parser_of_prometheus_reads_the_page(rest):
    rest.predict({"instances": [1]})
    page = rest.get(METRICS).body.decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert families[f"{PREFIX}request_latency"].type == "histogram"


def test_examples_are_counted_and_labels_escaped():
    metrics = Metrics(lambda name: True)
    call = Call("Classify", "GRPC", model='a"b\\\n', rows=3, run_seconds=0.001, seconds=0.002)
    metrics(call)
    failed = Call("Classify", "GRPC", model="m", code=Code.UNAVAILABLE, seconds=1.0)
    metrics(failed)
    found = values(metrics.page())
    assert found[f'{PREFIX}request_example_count_total{{model="a\\"b\\\\\\n"}}'] == 3
    assert found[f'{PREFIX}request_example_counts_bucket{{model="a\\"b\\\\\\n",le="4"}}'] == 1
    assert found[f'{PREFIX}request_count{{model_name="m",status="UNAVAILABLE"}}'] == 1
    assert not any("request_latency_count" in name and '"m"' in name for name in found)


def test_failed_loads_are_counted(tmp_path):
    metrics = Metrics(lambda name: True)

    def broken(directory):
        raise OSError("no disk")

    load = metrics.counted(broken)
    for _ in range(2):
        try:
            load(tmp_path)
        except OSError:
            continue
    (line,) = [name for name in values(metrics.page()) if "load_attempt_count" in name]
    assert line.endswith('status="fail"}') and values(metrics.page())[line] == 2


def test_the_batching_queue_is_measured(serve):
    batching = BatchingParameters(max_batch_size=4, thread_pool_name="pool")
    rest = serve(RestOptions(0), monitoring=SHOWN, loader=LoaderOptions(batching=batching))
    for _ in range(3):
        rest.predict({"instances": [1, 2]})
    found = values(rest.get(METRICS).body.decode())
    session = f"{PREFIX}batching_session:"
    assert found[f"{session}wrapped_run_count{{}}"] == 3
    assert found[f'{session}queuing_latency_count{{thread_pool_name="pool"}}'] == 3
    assert 0 < found[f'{session}queuing_latency_sum{{thread_pool_name="pool"}}'] < 3e6
    limits = [name for name in found if "queuing_latency_bucket" in name]
    assert len(limits) == 53 and 'le="100"' in limits[0] and 'le="120"' in limits[1]


def test_warm_up_is_measured_with_its_status(models, tmp_path, warm_up):
    metrics = Metrics(lambda name: True)
    policy = LoadPolicy(on_warm_up=metrics.warmed_up)
    for version, inputs in ((1, {"x": [1.0]}), (2, {"nonsense": [1.0]}), (3, None)):
        path = tmp_path / str(version)
        shutil.copytree(models / "half_plus_two", path)
        if inputs:
            warm_up(path, inputs)
        servable = Servable(
            "half", storage.LocalStore(tmp_path).inspect(version, str(version)), policy
        )
        servable.load(make_loader(LoaderOptions()))
        servable.retire()
    found = values(metrics.page())
    counts = {name: value for name, value in found.items() if "warmup_latency_count" in name}
    name = f"{PREFIX}model_warmup_latency_count"
    assert counts == {  # the third version has no warm-up requests
        f'{name}{{model_path="{tmp_path}/1",status="OK"}}': 1,
        f'{name}{{model_path="{tmp_path}/2",status="INVALID_ARGUMENT"}}': 1,
    }
    assert found[f'{PREFIX}model_warmup_latency_sum{{model_path="{tmp_path}/1",status="OK"}}'] > 0


def test_a_counter_is_found_by_both_forms_of_its_name():
    metrics = Metrics(lambda name: True)
    for code in (Code.OK, Code.OK, Code.INTERNAL):
        metrics(Call("Predict", "GRPC", model="m", code=code, run_seconds=0.5, seconds=1.0))
    assert metrics.count("/tensorflow/serving/request_count") == 3
    assert metrics.count(":tensorflow:serving:request_count") == 3
    assert metrics.count("/tensorflow/core/graph_run_time_usecs") == 1_500_000
    assert metrics.count("/tensorflow/serving/request_latency") == 0
    assert metrics.count("no such metric") == 0


def test_there_is_no_page_without_a_monitoring_config(serve):
    answer = serve(RestOptions(0)).get(METRICS)
    assert (answer.status, answer.body) == (404, b"")
