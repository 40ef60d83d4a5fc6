"""Groups, allowed classes and unusual names follow the same rules for every source."""

import pydantic
import pytest

from imgpipe.components.example_gen.sources import Item
from imgpipe.components.example_gen.sources.images import FileReader, Listing
from imgpipe.components.example_gen.sources.rules import checked
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings
from tests.components.example_gen.sources.trees import noted


def found_in(*items, least_classes=1, **options):
    """Return the images of a listing of these items."""
    listing = Listing("here", FileReader("here"), "expected images", items=list(items))
    return checked(listing, DataSettings(**options), least_classes)


def test_a_pattern_gives_the_groups_and_paths_that_do_not_match_are_noted(tmp_path):
    items = [Item(f"a/{n}.rf.{k}.jpg", "a") for n in "xy" for k in range(3)]
    found = found_in(*items, Item("b/z.jpg", "b"), group_pattern=r"([^/]+)\.rf\.")
    assert [item.group for item in found.items] == ["x"] * 3 + ["y"] * 3 + [None]
    assert found.groups() == 2
    assert noted(found) == [("no_group", "b/z.jpg")]


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "not a regular expression"), ("x", "round brackets")]
)
def test_a_pattern_without_a_group_is_refused(pattern, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        DataSettings(group_pattern=pattern)


def test_a_pattern_that_matches_no_path_is_refused():
    with pytest.raises(ConfigError, match="matches none of the 1"):
        found_in(Item("a/x.jpg", "a"), group_pattern="(q)")


def test_labels_outside_the_classes_are_named_and_missing_ones_noted():
    found = found_in(Item("a/1", "a"), Item("q/2", "q"), classes=("b", "a"))
    assert found.classes == ("a", "b")
    assert found.items[0].problem is None
    assert found.items[1].problem == ("outside_classes", "label 'q' is not in data.classes (a, b)")
    assert noted(found) == [("empty_class", "b")]


def test_training_items_of_a_group_that_is_also_in_validation_are_a_problem():
    found = found_in(
        Item("1", "a", "train", group="g"),
        Item("2", "a", "validation", group="g"),
        Item("3", "a", None, group="g"),
        Item("4", "a", "train", group="h"),
        Item("5", "a", "train"),
    )
    assert [item.split for item in found.items] == [
        *("train", "validation", "validation", "train", "train")
    ]
    reason, detail = found.items[0].problem
    assert reason == "group_across_splits" and detail.startswith("group 'g' is in validation too")
    assert not any(item.problem for item in found.items[1:])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("caf\udce9", "is not UTF-8; rename"),
        ("cafe\u0301", "look the same.*Give both the same name: rename one of the folders"),
        ("caf\u00e9 ", "look the same, 'caf\u00e9' and 'caf\u00e9 '; they differ only in case"),
        ("Caf\u00e9", "look the same, 'Caf\u00e9' and 'caf\u00e9'"),
        ("\uff43af\u00e9", "look the same.*in characters that are not shown"),
        ("\u200ecaf\u00e9\ufeff", "look the same"),
        ("caf\u00ad\u00e9\u3000", "look the same"),
    ],
)
def test_class_names_that_cannot_be_answered_or_told_apart_are_refused(other, message):
    items = Item("1", "caf\u00e9"), Item("2", other)
    with pytest.raises(ConfigError, match=message):
        found_in(*items)
    with pytest.raises(ConfigError, match=message):
        found_in(items[1], classes=("caf\u00e9", "bar"))


def test_single_letters_in_both_cases_and_words_with_other_signs_are_classes():
    labels = "a", "A", "cat_1", "cat-1", "hot dog"
    found = found_in(*(Item(label, label) for label in labels))
    assert set(found.classes) == set(labels)
    with pytest.raises(ConfigError, match="'Hot  Dog' and 'hot dog'"):
        found_in(Item("1", "hot dog"), Item("2", "Hot  Dog"))


def test_a_held_out_split_without_any_label_is_left_out():
    found = found_in(Item("1", "a", "train"), Item("2", None, "test"), Item("3", "b", "validation"))
    assert [item.path for item in found.items] == ["1", "3"]
    assert found.given_splits == ("train", "validation")
    assert noted(found) == [("unlabelled_split", "2")]


def test_too_few_classes_are_refused():
    with pytest.raises(ConfigError, match=r"has one class, a \(2 images\)\. A classifier needs"):
        found_in(Item("1", "a"), Item("2", "a"), least_classes=2)
    with pytest.raises(ConfigError, match="has 1 image without a label; expected images"):
        found_in(Item("1"))
