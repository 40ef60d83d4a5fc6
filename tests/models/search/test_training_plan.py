"""Tests of the plan of a training: its cut, its cost, and what is left of it in little time."""

from dataclasses import replace

import keras
import pytest

from imgpipe.models.backbones import layer_graph
from imgpipe.models.errors import ConfigError
from imgpipe.models.network.classifier import backbone_of
from imgpipe.models.search.training_plan import (
    TrainingPlan,
    nominal_minutes,
    nominal_seconds_a_view,
    training_plan,
)
from imgpipe.models.settings.course import FineTune
from imgpipe.models.settings.settings import Settings
from tests.network_settings import network_settings


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return backbone_of(network_settings(weights="none", freeze="all"))


def test_the_cost_of_reference_follows_images_size_and_network(network) -> None:
    assert [nominal_minutes(images) for images in (1, 1800, 3600, 10**6)] == [3, 3, 6, 15]
    seconds = nominal_seconds_a_view(network, 224)
    assert seconds == pytest.approx(1 / 248, rel=0.01)
    larger = backbone_of(network_settings(weights="none", freeze="all", image_size=288))
    assert nominal_seconds_a_view(larger, 288) == pytest.approx(seconds * (288 / 224) ** 2, rel=0.1)
    pixels = keras.Input((224, 224, 3))
    unknown = keras.Model(pixels, keras.layers.Rescaling(1 / 255)(pixels))
    assert nominal_seconds_a_view(unknown, 224) == pytest.approx(seconds, rel=0.01)


def test_the_plan_follows_the_settings(network) -> None:
    plan = training_plan(Settings(), network)
    assert plan is not None
    assert plan.cut == "block8_project"
    assert 0.3 < plan.share < 0.6
    plan = training_plan(network_settings(fine_tune=FineTune(cut="block11", epochs=2)), network)
    assert plan is not None
    assert (plan.cut, plan.epochs) == ("block11", 2)


@pytest.mark.parametrize(
    "settings",
    [
        network_settings(image_size=160),
        network_settings(weights="none", freeze="all"),
        network_settings(builder="my_module:build", weights="none"),
        network_settings(backbone="mobilenet_v2"),
    ],
    ids=["a size", "random weights", "a builder", "weights of one size"],
)
def test_an_image_size_that_is_set_is_not_varied(settings) -> None:
    assert not settings.larger_sizes


def test_two_larger_sizes_of_the_images_are_multiples_of_32() -> None:
    assert Settings().larger_sizes == (288, 384)
    assert network_settings(backbone="efficientnet_lite1").larger_sizes == (320, 416)


def test_a_network_without_a_cut_is_not_searched() -> None:
    pixels = keras.Input((32, 32, 3))
    x = pixels / 255.0
    both = keras.layers.Conv2D(4, 3)(x) + keras.layers.Conv2D(4, 3)(x)
    network = keras.Model(pixels, both)
    assert training_plan(Settings(), network) is None
    with pytest.raises(ConfigError, match="no layer above which layers could be trained"):
        layer_graph.usual_cut(network)


def test_views_and_epochs_are_reduced_to_the_time_that_is_left() -> None:
    plan = TrainingPlan("block8", share=0.5, epochs=4, views=4)
    every = plan.passes()
    assert every == pytest.approx(5 * (1 + 4 * 0.5 * 4))
    assert plan.within(every) == plan
    assert plan.within(0.9 * every) == replace(plan, views=3)
    assert plan.within(0.3 * every) == replace(plan, views=3, epochs=1)
    assert plan.within(1.0) is None
    endless = replace(plan, epochs=100_000, views=32)
    assert endless.within(endless.passes()) == endless


def test_a_trial_is_one_epoch_for_a_third_of_the_cost() -> None:
    plan = TrainingPlan("block8", share=0.5, epochs=4, views=4)
    trial = plan.trial()
    assert trial == replace(plan, epochs=1)
    assert trial.passes() <= plan.passes() / 3
    assert replace(plan, epochs=1, views=0).trial() == plan.smallest()
