"""What can be set about the model and its training, checked where it enters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from models.errors import ConfigError

ACTIVATIONS: Final = ("auto", "softmax", "sigmoid")


@dataclass(frozen=True)
class ModelSettings:
    """Settings of the classifier head and of its training.

    Attributes:
        name: Name of the served model.
        backbone: Name in the table of backbones.
        image_size: Side in pixels; None is the size the backbone's weights were trained at.
        dropout: Share of the features dropped in training, [0, 1).
        hidden_units: Width of one hidden layer; 0 is a linear head.
        activation: "sigmoid" has one unit for two classes, "softmax" one a class, "auto" is
            sigmoid for two classes and softmax for more. Probabilities are [N, C] either way.
        learning_rate: Of Adam.
        batch_size: Bank rows (views) a step.
        epochs: Most passes over the bank.
        patience: Epochs without a lower validation loss after which training stops.
        target_accuracy: Validation accuracy at which training stops at once; None is no target.
        label_smoothing: Share of each label spread over all classes, [0, 1).
        seed: Of initial weights, shuffles and dropout.
    """

    name: str = "imgpipe"
    backbone: str = "efficientnet_lite0"
    image_size: int | None = None
    dropout: float = 0.2
    hidden_units: int = 0
    activation: str = "auto"
    learning_rate: float = 1e-3
    batch_size: int = 64
    epochs: int = 40
    patience: int = 5
    target_accuracy: float | None = None
    label_smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"model.activation: expected one of {', '.join(ACTIVATIONS)}. "
                f"Received: {self.activation!r}"
            )
        for name in ("batch_size", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"model.{name}: expected 1 or more. Received: {getattr(self, name)!r}"
                )
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"model.{name}: expected 0 or more, below 1. Received: {getattr(self, name)!r}"
                )
        if self.learning_rate <= 0:
            raise ConfigError(
                f"model.learning_rate: expected above 0. Received: {self.learning_rate!r}"
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ModelSettings:
        """From the "model" table of a trainer's custom config; an unknown name is refused."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                f"model settings: expected only {', '.join(sorted(known))}. "
                f"Received: {', '.join(unknown)}"
            )
        return cls(**values)

    def one_unit(self, classes: int) -> bool:
        """Whether the head has the single unit of a binary classifier."""
        if self.activation == "sigmoid" and classes != 2:
            raise ConfigError(
                f"model.activation: sigmoid needs two classes, the vocabulary has {classes}. "
                "Use softmax or auto"
            )
        return classes == 2 and self.activation != "softmax"


def check_vocabulary(vocabulary: Sequence[str]) -> tuple[str, ...]:
    """The class names, if they can be one a line in a file and told apart.

    Raises:
        ConfigError: Fewer than two, one twice, one empty or with a line break, or not sorted.
    """
    names = tuple(vocabulary)
    if len(names) < 2:
        raise ConfigError(f"a classifier needs two classes or more. Received: {list(names)}")
    if list(names) != sorted(set(names)):
        raise ConfigError(f"expected class names sorted, each once. Received: {list(names)}")
    odd = [name for name in names if name.splitlines() != [name]]
    if odd:
        raise ConfigError(f"class names must not be empty or hold a line break. Received: {odd}")
    return names
