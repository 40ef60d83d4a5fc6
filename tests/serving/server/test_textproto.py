"""Configuration files in Protobuf's text format are read and checked."""

from __future__ import annotations

import pytest

from imgpipe.serving.server import textproto
from imgpipe.serving.server.errors import BadArgument
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.server.versions import config


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a text to a file and returns its path."""

    def do(text: str):
        path = tmp_path / "file.config"
        path.write_text(text)
        return path

    return do


def test_batching_defaults_are_those_of_tensorflow_serving(write):
    found = textproto.read_batching(write(""))
    assert found == textproto.BatchingParameters()
    assert (found.max_batch_size, found.batch_timeout_micros) == (1000, 0)
    assert found.max_enqueued_batches == 10


def test_batching_parameters(write):
    found = textproto.read_batching(
        write(
            """
            max_batch_size { value: 32 }
            batch_timeout_micros { value: 5000 }
            max_enqueued_batches { value: 100 }
            num_batch_threads { value: 4 }
            thread_pool_name { value: "batch" }
            allowed_batch_sizes: 8
            allowed_batch_sizes: 32
            pad_variable_length_inputs: true
            """
        )
    )
    assert found == textproto.BatchingParameters(
        32, 5000, 100, 4, (8, 32), True, thread_pool_name="batch"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be at least 1; was 0"),
        ("allowed_batch_sizes: 8", "last entry was 8; expected 1000"),
        (
            "allowed_batch_sizes: 8 allowed_batch_sizes: 4 max_batch_size { value: 4 }",
            "monotonically increasing",
        ),
        ("max_execution_batch_size { value: 4 }", "needs enable_large_batch_splitting"),
        (
            "enable_large_batch_splitting { value: true } max_batch_size { value: 4 } "
            "max_execution_batch_size { value: 5 }",
            "max_execution_batch_size must be at most max_batch_size, 4; was 5",
        ),
        (
            "enable_large_batch_splitting { value: true } max_batch_size { value: 8 } "
            "max_execution_batch_size { value: 4 } allowed_batch_sizes: 4",
            "must match max_batch_size; last entry was 4; expected 8",
        ),
        ("max_batch_size: 3", "Error parsing text-format tensorflow.serving.BatchingParameters"),
        ("nonsense", "Invalid protobuf file"),
    ],
)
def test_bad_batching_parameters(write, text, words):
    with pytest.raises(BadArgument, match=words):
        textproto.read_batching(write(text))


def test_monitoring(write):
    assert textproto.read_monitoring(write("")) == textproto.Monitoring(False)
    text = 'prometheus_config { enable: true, path: "/metrics" }'
    assert textproto.read_monitoring(write(text)) == textproto.Monitoring(True, "/metrics")
    with pytest.raises(BadArgument, match="begins with a slash"):
        textproto.read_monitoring(write('prometheus_config { path: "metrics" }'))
    assert textproto.read_monitoring(write("prometheus_config { enable: true }")).path == (
        "/monitoring/prometheus/metrics"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('server_key: "/etc/key.pem" server_cert: "-----BEGIN X"', "server_key is the text of"),
        ("client_verify: 3", "Invalid protobuf file"),
        (
            'server_key: "-----BEGIN K" server_cert: "-----BEGIN C" client_verify: true',
            "custom_ca is the text of",
        ),
    ],
)
def test_bad_ssl_configurations(write, text, words):
    with pytest.raises(BadArgument, match=words):
        textproto.read_ssl(write(text))


def test_a_missing_config_file_is_refused(tmp_path):
    with pytest.raises(BadArgument, match=r"Cannot read .*No such file"):
        textproto.read_ssl(tmp_path / "nope")


def test_model_configs_are_read(write):
    text = """
    model_config_list {
      config {
        name: "a" base_path: "/models/a" model_platform: "tensorflow"
        model_version_policy { specific { versions: 1 versions: 3 } }
        version_labels { key: "stable" value: 1 }
        version_labels { key: "canary" value: 3 }
        logging_config {
          log_collector_config { type: "" filename_prefix: "/logs/a" }
          sampling_config { sampling_rate: 0.25 }
        }
      }
      config {
        name: "b" base_path: "file:///models/b" model_type: TENSORFLOW
        model_version_policy { latest { num_versions: 2 } }
      }
      config { name: "c" base_path: "/c" model_platform: "tensorflow"
               model_version_policy { all {} } }
    }
    """
    a, b, c = config.read_models(write(text))
    assert (a.policy.kind, a.policy.versions) == ("specific", (1, 3))
    assert dict(a.labels) == {"stable": 1, "canary": 3}
    assert a.request_log == config.RequestLogConfig("/logs/a", 0.25)
    assert (str(b.base_path), b.platform, b.policy.num_versions) == ("/models/b", "tensorflow", 2)
    assert c.policy.kind == "all" and c.request_log is None


@pytest.mark.parametrize(
    ("kind", "found", "chosen"),
    [
        (config.VersionPolicy(), [3, 1, 2], [3]),
        (config.VersionPolicy(num_versions=0), [3, 1, 2], [3]),
        (config.VersionPolicy(num_versions=2), [3, 1, 2], [3, 2]),
        (config.VersionPolicy("all"), [3, 1, 2], [3, 2, 1]),
        (config.VersionPolicy("specific", versions=(1, 9)), [3, 1, 2], [1]),
        (config.VersionPolicy("specific"), [3, 1, 2], []),
    ],
)
def test_policies_choose_versions_newest_first(kind, found, chosen):
    assert kind.choose(found) == chosen


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name: "a" base_path: "/a"', "Illegal setting neither model_type"),
        (
            'name: "a" base_path: "/a" model_type: TENSORFLOW model_platform: "tensorflow"',
            "Illegal setting both",
        ),
        (
            'name: "a" base_path: "/a" model_platform: "tensorflow" '
            "logging_config { sampling_config { sampling_rate: 2 } }",
            "needs a filename_prefix and a sampling_rate",
        ),
    ],
)
def test_bad_model_configs(write, text, words):
    with pytest.raises(StatusError, match=words):
        config.read_models(write(f"model_config_list {{ config {{ {text} }} }}"))


def model(name="a", path="/a", **more):
    """Return a ModelConfig with defaults for name and base path."""
    from pathlib import Path

    return config.ModelConfig(name, Path(path), **more)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([model(), model()], "Illegal to list model a multiple times in config list"),
        (
            [model(path="models")],
            r"Expected model a to have an absolute path or URI; got base_path\(\)=models",
        ),
        ([model(platform="other")], "Platform other of model a is not served"),
        ([model(name="")], "needs a name"),
        (
            [model(request_log=config.RequestLogConfig("/logs/", 1.0))],
            "beginning of the paths of its files, such as /logs/requests. Received a folder: '/lo",
        ),
    ],
)
def test_refused_models(models, words):
    with pytest.raises(StatusError, match=words):
        config.check(models)


def test_only_new_folders_of_request_logs_are_made(tmp_path):
    def logged(name: str) -> config.ModelConfig:
        return model(request_log=config.RequestLogConfig(str(tmp_path / name / "r"), 1.0))

    config.check([logged("new")])
    config.make_log_folders([logged("old")], [logged("old")])
    assert not list(tmp_path.iterdir())
    config.make_log_folders([logged("old")], [logged("new")])
    assert (tmp_path / "new").is_dir()


def test_the_platform_of_a_model_cannot_be_changed():
    words = "Illegal to change a model's platform. For model a platform was tensorflow and new"
    with pytest.raises(StatusError, match=words):
        config.check_change([model()], [model(platform="other")])
