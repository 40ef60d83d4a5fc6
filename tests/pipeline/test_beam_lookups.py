"""Tests that Beam finds the same parameters and options with cached lookups as without."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    StandardOptions,
    TypeOptions,
)
from apache_beam.transforms import core, userstate

from imgpipe.pipeline.runners import beam_lookups

# TFX and TensorFlow warn about their own dependencies, which this project cannot change.
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


@pytest.mark.parametrize(
    "step", [_Plain(), _Stateful(), beam.Map(_double).fn], ids=["plain", "stateful", "callable"]
)
def test_cached_parameters_are_those_that_beam_finds(step: beam.DoFn):
    methods = ("process", "setup", "start_bundle", "finish_bundle", "teardown")
    expected = [core.get_function_arguments(step, method) for method in methods]
    state = userstate.is_stateful_dofn(step)
    with beam_lookups.remembered():
        for _ in range(2):  # the second lookup is answered from the cache
            assert [core.get_function_arguments(step, one) for one in methods] == expected
            assert userstate.is_stateful_dofn(step) == state


def test_overlapping_blocks_restore_the_functions_of_beam():
    before = core.get_function_args_defaults, PipelineOptions.view_as
    first, second = beam_lookups.remembered(), beam_lookups.remembered()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert (core.get_function_args_defaults, PipelineOptions.view_as) == before


def test_views_show_the_options_of_their_pipeline():
    first = PipelineOptions(["--runner=FnApiRunner", "--no_pipeline_type_check"])
    second = PipelineOptions(["--runner=PrismRunner"])
    with beam_lookups.remembered():
        for _ in range(2):  # the second lookup is answered from the cache
            assert first.view_as(StandardOptions).runner == "FnApiRunner"
            assert second.view_as(StandardOptions).runner == "PrismRunner"
            assert not first.view_as(TypeOptions).pipeline_type_check
            assert second.view_as(TypeOptions).pipeline_type_check
