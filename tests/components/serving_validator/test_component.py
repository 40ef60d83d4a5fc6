"""ServingValidator: a lack of time or memory is no result about the model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from imgpipe.components.serving_validator import component
from imgpipe.models.errors import ResourceError
from imgpipe.serving.client import (
    DeadlineExceeded,
    InternalError,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from tests.models import small_export

_REFUSED = "the serving check could not be finished"


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a small SavedModel."""
    return str(small_export.save(tmp_path_factory.mktemp("export")))


def test_a_model_that_loads_too_slowly_ends_the_run(
    export: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(component, "LOAD_SECONDS", 0.0)
    with pytest.raises(ResourceError, match=rf"{_REFUSED} .* is not available after 0 s"):
        component.validate(export, [], np.empty((0, 3), np.float32))


def test_a_lack_of_memory_in_loading_ends_the_run(export: str) -> None:
    def lacking(runtime: Any) -> Any:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    with pytest.raises(ResourceError, match=rf"{_REFUSED} .*OOM when allocating tensor"):
        component.validate(export, [], np.empty((0, 3), np.float32), lacking)


@pytest.mark.parametrize("answers", [0, 1])
@pytest.mark.parametrize(
    "raised", [DeadlineExceeded, ResourceExhausted, Unavailable, InternalError]
)
def test_a_busy_server_ends_the_run_and_a_defect_is_a_result(
    export: str, monkeypatch: pytest.MonkeyPatch, answers: int, raised: type[ServingError]
) -> None:
    """The first request is answered or not, and the second one is no image."""
    expected = np.zeros((1, 3), np.float32)
    given = iter([SimpleNamespace(outputs={"probabilities": expected})] * answers)

    def predict(*_: Any, **__: Any) -> Any:
        if (answer := next(given, None)) is None:
            raise raised("late")
        return answer

    monkeypatch.setattr(component.Client, "predict", predict)
    if raised is InternalError:
        checks = component.validate(export, [], expected)
        assert [check.passed for check in checks][-1] is False
    else:
        with pytest.raises(ResourceError, match=f"{_REFUSED} .*late"):
            component.validate(export, [], expected)
