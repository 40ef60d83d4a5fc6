"""Tests that a bank is read in one order, and that inconsistent Examples are refused."""

import numpy as np
import pytest

from imgpipe.models import names
from imgpipe.models.errors import DataRefused, ResourceError
from imgpipe.models.features.bank import read_facts, read_rows
from tests.models.banks import write_facts


def test_rows_are_sorted_whatever_the_order_of_the_examples(write_bank, tmp_path) -> None:
    plain = read_rows(write_bank(tmp_path / "a"), names.TRAIN, 3)
    # the same rows, written in another order
    other = read_rows(write_bank(tmp_path / "b", shuffle=1), names.TRAIN, 3)
    for column in ("features", "labels", "views", "hashes"):
        np.testing.assert_array_equal(getattr(plain, column), getattr(other, column))
    assert plain.features.shape == (180, 16) and plain.features.dtype == np.float16
    keys = list(zip(plain.hashes, plain.views.tolist(), strict=True))
    assert keys == sorted(keys)


def _row(**changes: object) -> dict[str, object]:
    """Return the columns of an Example with 16 features, which `changes` overrides."""
    row = {
        names.FEATURES: bytes(32),
        names.LABEL_INDEX: 0,
        names.VIEW: 0,
        names.IMAGE_HASH: b"aa",
    }
    return row | changes


def _bank(write_records, directory, *rows: dict[str, object]) -> str:
    write_records(directory / "Split-train" / "data_tfrecord-00000-of-00001", list(rows))
    write_facts(directory, [16])
    return str(directory)


def test_examples_without_a_label_are_left_out(write_records, tmp_path) -> None:
    bank = _bank(write_records, tmp_path, _row(label_index=-1), _row(label_index=1))
    assert read_rows(bank, names.TRAIN, 2).labels.tolist() == [1]


def test_an_empty_or_absent_split_has_no_rows(write_records, tmp_path) -> None:
    bank = _bank(write_records, tmp_path)
    assert len(read_rows(bank, names.TRAIN, 2)) == 0
    assert len(read_rows(bank, names.TEST, 2)) == 0


def test_features_of_a_wrong_length_are_refused(write_records, tmp_path) -> None:
    bank = _bank(write_records, tmp_path, _row(), _row(features=bytes(30)))
    with pytest.raises(ResourceError, match=r"expected 32 bytes .* Received: 30"):
        read_rows(bank, names.TRAIN, 2)


def test_a_label_beyond_the_vocabulary_is_refused(write_records, tmp_path) -> None:
    bank = _bank(write_records, tmp_path, _row(label_index=2))
    with pytest.raises(DataRefused, match="label index 2, the vocabulary has 2 names"):
        read_rows(bank, names.TRAIN, 2)


@pytest.mark.parametrize("text", [None, "{", "{}", '{"sizes": null}'])
def test_a_bank_without_its_description_is_refused(text: str | None, tmp_path) -> None:
    if text is not None:
        (tmp_path / "bank.json").write_text(text)
    with pytest.raises(ResourceError, match="Run FeatureBank again"):
        read_facts(str(tmp_path))
