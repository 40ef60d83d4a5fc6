"""Helpers of the tests of `models/` that read feature banks into memory."""

from __future__ import annotations

import dataclasses

import numpy as np

from imgpipe.models.features.bank import BankRows, open_split


def read_split(bank_uri: str, split: str, classes: int) -> BankRows:
    """Read all labelled rows of one split into memory; see `open_split`."""
    with open_split(bank_uri, split, classes) as rows:
        return dataclasses.replace(rows, features=np.array(rows.features))
