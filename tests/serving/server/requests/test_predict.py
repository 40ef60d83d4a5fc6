"""The interface that gRPC and REST share.

The tests cover model specs, handles, arrays as inputs and outputs, and observers of calls.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from imgpipe.serving.server import runtime
from imgpipe.serving.server.core import Core
from imgpipe.serving.server.requests.calls import Call, Calls
from imgpipe.serving.server.requests.predict import Spec
from imgpipe.serving.server.runtime import SessionRuntime
from imgpipe.serving.server.status import Code, StatusError, code_name
from imgpipe.serving.server.versions.config import ModelConfig, VersionPolicy
from tests.serving.quick import quick


@pytest.fixture(scope="module")
def core(models, tmp_path_factory):
    """Return a Core with half_plus_two as versions 1 and 2; version 1 is ``stable``."""
    base = tmp_path_factory.mktemp("core")
    for version in (1, 2):
        (base / str(version)).symlink_to(models / "half_plus_two", target_is_directory=True)
    made = Core(SessionRuntime, quick(allow_version_labels_for_unavailable_models=True))
    config = ModelConfig("m", base, VersionPolicy("all"), {"stable": 1})
    made.reload([config], wait=60)
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("spec", "version"), [(Spec("m"), 2), (Spec("m", 1), 1), (Spec("m", label="stable"), 1)]
)
def test_a_handle_predicts_from_arrays_to_arrays(core, spec, version):
    with core.acquire(spec) as handle:
        answer = handle.predict({"x": np.float32([1, 2, 5])}, call=Call("Predict", "REST"))
        assert (handle.name, handle.version) == ("m", version)
        assert {"serving_default", "pair"} <= set(handle.signatures)
    assert answer.outputs["y"].tolist() == [2.5, 3.0, 4.5]
    assert (answer.signature_name, answer.rows) == ("serving_default", 3)
    assert answer.run_seconds > 0


def test_a_version_in_use_outlives_the_removal_of_its_model(core, models, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "1").symlink_to(models / "half_plus_two", target_is_directory=True)
    other = Core(SessionRuntime, quick())
    other.reload([ModelConfig("n", base)], wait=60)
    with other.acquire(Spec("n")) as handle:
        other.reload([])
        with pytest.raises(StatusError, match=r"Latest\(n\)"), other.acquire(Spec("n")):
            pass
        time.sleep(0.2)
        assert handle.predict({"x": np.float32([2])}).outputs["y"].tolist() == [3.0]
    assert not other.ready()


def test_more_sets_of_outputs_than_are_cached_can_be_requested(core):
    """Clients choose the outputs; the number of prepared sets that are kept is limited."""
    inputs = {"a": np.float32([1, 2]), "b": np.int64([3, 4])}
    with core.acquire(Spec("m")) as handle:
        inner = handle.runtime
        signature = handle.signatures["pair"]
        feeds = [signature.inputs[name].name for name in ("a", "b")]
        fetches = [signature.outputs[name].name for name in ("count", "same", "sum")]
        for count in range(1, 2 * runtime.MAX_PREPARED + 10):
            wanted = [*itertools.islice(itertools.cycle(fetches), count)]
            assert len(inner.run(feeds, list(inputs.values()), wanted)) == count
        assert inner.prepared <= runtime.MAX_PREPARED
        assert handle.predict(inputs, "pair", call=Call("Predict", "REST")).outputs[
            "sum"
        ].tolist() == [4, 6]


def test_observers_get_every_call_with_its_status():
    seen = []
    calls = Calls([seen.append])
    call = Call("Predict", "REST", deadline=time.monotonic() + 5)
    assert calls.run(call, lambda call: 7) == 7
    assert (call.status, seen) == ("OK", [call]) and call.seconds > 0

    def fail(call):
        raise StatusError(Code.NOT_FOUND, "gone")

    with pytest.raises(StatusError, match="gone"):
        calls.run(Call("Predict", "REST"), fail)
    with pytest.raises(StatusError, match="Deadline"):
        calls.run(Call("Predict", "GRPC", deadline=time.monotonic() - 1), fail)
    with pytest.raises(StatusError, match="Cancelled"):
        calls.run(Call("Predict", "GRPC", is_active=lambda: False), fail)
    assert [call.status for call in seen[1:]] == ["NOT_FOUND", "DEADLINE_EXCEEDED", "CANCELLED"]
    assert len({id(call) for call in seen}) == 4  # each call is told once
    assert code_name(99) == "UNKNOWN"
