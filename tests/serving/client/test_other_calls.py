"""Classify, Regress, MultiInference, reloading and labels against the embedded server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from imgpipe.serving.client import InvalidArgument, NotFound, Tls, Unavailable


@pytest.fixture(scope="module")
def of_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the base path of a model with two signatures on tf.Examples with a feature ``x``.

    ``serving_default`` gives classes and scores; ``regress`` gives x / 2 + 2.
    """
    import tensorflow as tf

    class Model(tf.Module):
        def parse(self, inputs):
            spec = {"x": tf.io.FixedLenFeature([], tf.float32)}
            return tf.io.parse_example(inputs, spec)["x"]

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def rank(self, inputs):
            x = self.parse(inputs)
            names = tf.tile(tf.constant([["small", "large"]]), [tf.size(x), 1])
            return {"classes": names, "scores": tf.stack([1.0 - x, x], axis=1)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def value(self, inputs):
            return {"outputs": self.parse(inputs) / 2 + 2}

    base = tmp_path_factory.mktemp("examples")
    model = Model()
    signatures = {"serving_default": model.rank, "regress": model.value}
    for version in (1, 2):
        tf.saved_model.save(model, str(base / str(version)), signatures=signatures)
    return base


@pytest.fixture(scope="module")
def server(of_examples: Path) -> Iterator[str]:
    """Serve the model ``m`` with reloading allowed and return the target."""
    from imgpipe.serving.server import ModelServer
    from imgpipe.serving.server.server import ServerOptions
    from imgpipe.serving.server.services import ServiceOptions

    options = ServerOptions(services=ServiceOptions(allow_reload=True))
    made = ModelServer("m", of_examples, poll_seconds=0.1, options=options)
    made.start()
    made.wait_until_available(60)
    yield made.target
    made.stop(1)


EXAMPLES = [{"x": 0.25}, {"x": 1.0}]
CLIENT = {"model": "m"}


def test_classify_and_regress_with_and_without_context(ask, server):
    ranked = ask(server, "classify_examples", EXAMPLES, client=CLIENT)
    assert ranked.examples == [
        [("small", 0.75), ("large", 0.25)],
        [("small", 0.0), ("large", 1.0)],
    ]
    assert (ranked.model, ranked.version, ranked.signature_name) == ("m", 2, "serving_default")
    valued = ask(server, "regress_examples", EXAMPLES, "regress", client=CLIENT)
    assert valued.values.tolist() == [2.125, 2.5]
    with_context = ask(server, "regress_examples", [{}], "regress", {"x": 4.0}, client=CLIENT)
    assert with_context.values.tolist() == [4.0]
    with pytest.raises(InvalidArgument, match="Input is empty"):
        ask(server, "classify_examples", [], client=CLIENT)


def test_multi_inference_answers_every_task(ask, server):
    tasks = {"serving_default": "classify", "regress": "regress"}
    both = ask(server, "multi_inference", tasks, EXAMPLES, client=CLIENT)
    assert both["serving_default"].examples[1][1] == ("large", 1.0)
    assert both["regress"].values.tolist() == [2.125, 2.5]


def test_labels_can_be_used_after_a_reload(ask, server, of_examples):
    config = f"""
    model_config_list {{ config {{
      name: "m" base_path: "{of_examples}" model_platform: "tensorflow"
      model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
      LABELS
    }} }}
    """
    ask(server, "reload", config.replace("LABELS", ""), timeout=30.0)
    labels = 'version_labels { key: "stable" value: 1 }'
    ask(server, "reload", config.replace("LABELS", labels), timeout=30.0)
    stable = ask(
        server, "regress_examples", EXAMPLES, "regress", client={"model": "m", "label": "stable"}
    )
    assert stable.version == 1
    assert ask(server, "ready", client={"model": "m", "label": "stable"}) is True
    assert ask(server, "wait_until_available", client={"model": "m", "label": "stable"}) == 1
    newest = ask(server, "regress_examples", EXAMPLES, "regress", client=CLIENT)
    assert newest.version == 2
    with pytest.raises(InvalidArgument, match="Unrecognized servable version label: canary"):
        ask(server, "metadata", client={"model": "m", "label": "canary"})
    with pytest.raises(InvalidArgument, match="multiple times"):
        one = f'config {{ name: "m" base_path: "{of_examples}" model_platform: "tensorflow" }}'
        ask(server, "reload", f"model_config_list {{ {one} {one} }}")


def test_mutual_tls_with_the_embedded_server(ask, models, push, tmp_path, certificates):
    from imgpipe.serving.server import ModelServer
    from imgpipe.serving.server.server import ServerOptions
    from imgpipe.serving.server.textproto import SslConfig

    push("half_plus_two", tmp_path, 1)
    chain, key = (path.read_text() for path in certificates.server)
    tls = SslConfig(key, chain, certificates.ca.read_text(), client_verify=True)
    with ModelServer("half", tmp_path, options=ServerOptions(tls=tls)) as running:
        running.wait_until_available(60)
        known = {"model": "half", "tls": Tls(certificates.ca, *certificates.client)}
        answer = ask(running.target, "predict", {"x": np.float32([2])}, client=known)
        assert answer.outputs["y"].tolist() == [3.0]
        with pytest.raises(NotFound, match=r"Latest\(other\)"):
            ask(running.target, "predict", {"x": [1.0]}, client={**known, "model": "other"})
        stranger = {"model": "half", "tls": Tls(certificates.ca), "timeout": 5.0}
        with pytest.raises(Unavailable, match="No model server is available"):
            ask(running.target, "status", client=stranger)
