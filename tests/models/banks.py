"""Helpers of the tests of `models/` that read feature banks."""

from __future__ import annotations

from imgpipe.models.features.bank import BankRows, read_rows


def read_split(bank_uri: str, split: str | tuple[str, ...], classes: int) -> BankRows:
    """Read all labelled rows of a split or of several; see `read_rows`."""
    return read_rows(bank_uri, split, classes)


def clean(rows: BankRows) -> BankRows:
    """Return the rows of the images themselves."""
    return rows.select(rows.clean)
