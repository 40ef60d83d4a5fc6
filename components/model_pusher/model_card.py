"""The model card of a published version, which people and the Hugging Face Hub read.

The block between the dashes holds the fields of the Hub's card
(https://huggingface.co/docs/hub/model-cards). Servers ignore the file, and the manifest lists it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

#: Characters that Markdown gives a meaning to, so that a class name is shown as it is.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+.!|~&-])")


def model_card(facts: Mapping[str, Any], decision: Mapping[str, Any] | None = None) -> str:
    """Write the card.

    Args:
        facts: Fields of the manifest, such as name, vocabulary, backbone, image_size, fingerprint
            and baseline_version; each may be missing.
        decision: Decision of ImageEvaluator; None if its figures are not known.

    Returns:
        Markdown text that begins with a block of YAML.
    """
    name = str(facts.get("name") or "image classifier")
    fields = yaml.safe_dump(_fields(name, decision), sort_keys=False, allow_unicode=False)
    classes = "\n".join(f"- {_text(one)}" for one in facts.get("vocabulary") or [])
    blocks = [
        f"---\n{fields}---\n\n# {_text(name)}",
        "An image classifier in the format SavedModel of TensorFlow. Its signature "
        "`serving_default` takes encoded images (JPEG, PNG, BMP or GIF, and WebP where the "
        "server's TensorFlow decodes it) and answers with class names and probabilities. Decoding "
        "and resizing are part of the model.",
        f"## Classes\n\n{classes}" if classes else "",
        _evaluation(decision),
        _origin(facts),
        "## Limits\n\nThe model knows only its classes. An image that shows none of them may be "
        "given the name of one. The figures hold for images like those that it was evaluated on.",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _fields(name: str, decision: Mapping[str, Any] | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "tensorflow", "saved-model"],
    }
    if not decision or decision["value"] is None:
        return fields
    accuracy, folds = decision["value"], decision["folds"]
    dataset = {"type": "image-folder", "name": "validation split", "split": "validation"}
    if folds:  # the accuracy that decided
        accuracy = folds["mean"]
        dataset |= {
            "name": f"{folds['folds']} folds of train and validation",
            "split": "train+validation",
        }
    result = {
        "task": {"type": "image-classification"},
        "dataset": dataset,
        "metrics": [{"type": "accuracy", "value": round(accuracy, 4)}],
    }
    return {
        **fields,
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": [result]}],
    }


def _evaluation(decision: Mapping[str, Any] | None) -> str:
    if not decision or decision["value"] is None:
        return ""
    by_folds = ""
    if folds := decision["folds"]:
        by_folds = (
            f"Mean accuracy over {folds['folds']} folds: {folds['mean']:.3f} ± {folds['std']:.3f} "
            f"({folds['correct']:,} of {folds['images']:,} correct). Each image of train and "
            "validation was classified by a network that was not trained on it, and this mean "
            "decided whether the model was published.\n\n"
        )
    return (
        f"## Evaluation\n\n{by_folds}Accuracy on the validation split: {decision['value']:.3f} "
        f"({decision['count']:,} images). The exported model itself was evaluated, on encoded "
        "images. Held-out images were also used for calibration and for the decision to publish, "
        "so that a new set of images may give a lower figure."
    )


def _origin(facts: Mapping[str, Any]) -> str:
    size = facts.get("image_size")
    values = {
        "Backbone": facts.get("backbone"),
        "Image size": f"{size} × {size} pixels" if size else "",
        "Fingerprint of the data": facts.get("fingerprint"),
        "Key of the run": facts.get("run_key"),
        "Parent version": facts.get("baseline_version"),
    }
    rows = "\n".join(f"- {name}: {_text(str(value))}" for name, value in values.items() if value)
    return f"## Origin\n\n{rows}" if rows else ""


def _text(value: str) -> str:
    """Escape a text for one line of Markdown; bytes that are not UTF-8 become question marks."""
    line = " ".join(value.encode("utf-8", "replace").decode().split())
    return _SPECIAL.sub(r"\\\1", line)
