"""What the client hands back: plain frozen records, numpy inside, no protobuf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Classification:
    """The answer for one image."""

    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    """(label, probability), most probable first."""
    version: int
    """Version of the model that answered."""


@dataclass(frozen=True)
class Prediction:
    """The raw answer of one Predict call."""

    outputs: dict[str, np.ndarray]
    model: str
    version: int
    signature_name: str
    """The signature that ran: the server fills in the default one."""


@dataclass(frozen=True)
class Rankings:
    """The answer of the Classify RPC."""

    examples: list[list[tuple[str, float]]]
    """(label, score) of each example, in the model's order; a missing label is empty."""
    model: str
    version: int
    signature_name: str


@dataclass(frozen=True)
class Regressions:
    """The answer of the Regress RPC."""

    values: np.ndarray
    """float32 [examples]."""
    model: str
    version: int
    signature_name: str


@dataclass(frozen=True)
class VersionStatus:
    """State of one version on the server."""

    version: int
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END."""
    error_code: int
    """Canonical status code; 0 is OK."""
    error_message: str


@dataclass(frozen=True)
class ModelStatus:
    """One model of a server, as the server lists it."""

    name: str
    versions: list[VersionStatus]
    """Every version that the server knows, newest first."""
    labels: dict[str, int]
    """The version that each version label stands for."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature."""

    name: str
    """Name of the tensor in the graph."""
    dtype: str
    shape: tuple[int | None, ...] | None
    """None for an unknown rank, None inside for an unknown size."""


@dataclass(frozen=True)
class SignatureSpec:
    """Inputs and outputs of one signature by their public names."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    method_name: str


@dataclass(frozen=True)
class Metadata:
    """What a model offers."""

    model: str
    version: int
    signatures: dict[str, SignatureSpec]
