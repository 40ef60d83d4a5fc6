"""Splits depend on content and seed, have the configured shares, and keep those of the source."""

import collections
import hashlib

import pytest

from imgpipe.components.common.splits import SplitRule

HASHES = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(5000)]


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.1, 0.0), (0.3, 0.2)])
def test_splits_have_the_configured_shares(validation, test):
    rule = SplitRule(validation=validation, test=test)
    seen = collections.Counter(rule.assign(h, None) for h in HASHES)
    assert seen["validation"] / 5000 == pytest.approx(validation, abs=0.015)
    assert seen["test"] / 5000 == pytest.approx(test, abs=0.015)


def test_given_splits_are_kept_and_validation_carved_out_of_train_alone():
    rule = SplitRule(given=("train", "test"))
    assert {rule.assign(h, "test") for h in HASHES} == {"test"}
    seen = collections.Counter(rule.assign(h, "train") for h in HASHES)
    assert set(seen) == {"train", "validation"}
    assert seen["validation"] / 5000 == pytest.approx(0.1, abs=0.015)
    full = SplitRule(given=("train", "validation"))
    assert {full.assign(h, "train") for h in HASHES} == {"train"}
