"""Helpers of the tests of `models/` that read feature banks."""

from __future__ import annotations

from typing import Any

from imgpipe.models.features.bank import BankRows, read_rows
from imgpipe.models.training.training_loop import Fit


def read_split(bank_uri: str, split: str | tuple[str, ...], classes: int) -> BankRows:
    """Read all labelled rows of a split or of several; see `read_rows`."""
    return read_rows(bank_uri, split, classes)


def clean(rows: BankRows) -> BankRows:
    """Return the rows of the images themselves."""
    return rows.select(rows.clean)


def best(fit: Fit) -> dict[str, Any]:
    """Return the record of the epoch whose weights a trained model has."""
    return fit.history["epochs"][fit.history["best_epoch"] - 1]
