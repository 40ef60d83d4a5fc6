"""Results of the client: frozen dataclasses with NumPy arrays, without protobuf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Classification:
    """Classification of one image."""

    label: str
    """The most probable class, or what the model says instead of one, as "unknown"."""
    probability: float
    """Probability of the most probable class."""
    top: tuple[tuple[str, float], ...]
    """Pairs of label and probability, most probable first."""
    version: int
    """Version of the model that answered."""


@dataclass(frozen=True)
class Prediction:
    """Outputs of one Predict call."""

    outputs: dict[str, np.ndarray]
    model: str
    version: int
    signature_name: str
    """The signature that ran; the server fills in the default name."""


@dataclass(frozen=True)
class VersionStatus:
    """State of one version on the server."""

    version: int
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END."""
    error_code: int
    """Canonical gRPC status code; 0 is OK."""
    error_message: str


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature."""

    name: str
    """Name of the tensor in the graph."""
    dtype: str
    shape: tuple[int | None, ...] | None
    """None where the rank is unknown; an entry is None where that dimension is unknown."""


@dataclass(frozen=True)
class SignatureSpec:
    """Inputs and outputs of one signature by their public names."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    method_name: str


@dataclass(frozen=True)
class Metadata:
    """The signatures of a model version."""

    model: str
    version: int
    signatures: dict[str, SignatureSpec]
