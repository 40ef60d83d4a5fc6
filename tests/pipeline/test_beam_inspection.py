"""Beam gets the same parameters of methods, whether they are remembered or not."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.transforms import core, userstate

from imgpipe.pipeline.runners import beam_inspection

# TFX and TensorFlow warn about their own dependencies; none of it is ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

_TOTAL = beam.DoFn.StateParam(userstate.CombiningValueStateSpec("sum", sum))


class _Plain(beam.DoFn):
    def process(self, element, *sides, timestamp=beam.DoFn.TimestampParam, least=3):
        yield element, timestamp, least


class _Stateful(beam.DoFn):
    def process(self, element, total=_TOTAL):
        total.add(element)
        yield total.read()


def _double(value: int, times: int = 2) -> int:
    return value * times


@pytest.mark.parametrize("step", [_Plain(), _Stateful(), beam.Map(_double).fn], ids=repr)
def test_the_parameters_are_those_that_beam_finds(step: beam.DoFn):
    methods = ("process", "setup", "start_bundle", "finish_bundle", "teardown")
    expected = [core.get_function_arguments(step, method) for method in methods]
    state = userstate.is_stateful_dofn(step)
    with beam_inspection.remembered():
        for _ in range(2):  # the second time they are remembered
            assert [core.get_function_arguments(step, one) for one in methods] == expected
            assert userstate.is_stateful_dofn(step) == state


def test_two_objects_of_a_class_share_what_is_remembered(monkeypatch: pytest.MonkeyPatch):
    asked = []
    inspected = core.get_function_args_defaults

    def counted(function):
        asked.append(function)
        return inspected(function)

    monkeypatch.setattr(core, "get_function_args_defaults", counted)
    with beam_inspection.remembered():
        for step in (_Plain(), _Plain()):
            core.get_function_arguments(step, "process")[0].clear()  # the list is the caller's own
            assert core.get_function_arguments(step, "process")[0][0] == "element"
    assert len(asked) == 1
    assert core.get_function_args_defaults is counted


def test_a_pipeline_in_the_block_computes_the_same():
    with beam_inspection.remembered(), beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create([1, 2, 3])
            | beam.Map(_double)
            | beam.Map(lambda value: (0, value))
            | "Sum" >> beam.CombinePerKey(sum)
            | beam.Values()
            | beam.Map(_require_sum)
        )


def _require_sum(value: int) -> None:
    assert value == 12
