"""The model card of a published version, which people and the Hugging Face Hub read.

The block between the dashes holds the fields of the Hub's card
(https://huggingface.co/docs/hub/model-cards). Servers ignore the file, and people may change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from imgpipe.components.image_evaluator.decision import Decision

#: Characters that Markdown gives a meaning to, so that a class name is shown as it is.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+.!|~&-])")
_HEAD = """---
pipeline_tag: image-classification
tags: [image-classification, tensorflow, saved-model]
---
"""


def model_card(facts: Mapping[str, Any], decision: Decision | None = None) -> str:
    """Write the card.

    Args:
        facts: Fields of the manifest, such as name, vocabulary, backbone, image_size, fingerprint
            and baseline_version; each may be missing.
        decision: Decision of ImageEvaluator; None if its figures are not known.

    Returns:
        Markdown text that begins with a block of YAML.
    """
    size = facts.get("image_size")
    origin = {
        "Backbone": facts.get("backbone"),
        "Image size": f"{size} × {size} pixels" if size else "",
        "Fingerprint of the data": facts.get("fingerprint"),
        "Key of the run": facts.get("run_key"),
        "Parent version": facts.get("baseline_version"),
    }
    blocks = [
        f"{_HEAD}\n# {_text(str(facts.get('name') or 'image classifier'))}",
        "An image classifier in the format SavedModel of TensorFlow. Its signature "
        "`serving_default` takes encoded images (JPEG, PNG, BMP or GIF, and WebP where the "
        "server's TensorFlow decodes it) and answers with class names and probabilities. Decoding "
        "and resizing are part of the model.",
        _list("Classes", map(_text, facts.get("vocabulary") or [])),
        _evaluation(decision) if decision and decision["value"] is not None else "",
        _list("Origin", (f"{key}: {_text(str(value))}" for key, value in origin.items() if value)),
        "## Limits\n\nThe model knows only its classes. An image that shows none of them may be "
        "given the name of one. The figures hold for images like those that it was evaluated on.",
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _list(title: str, rows: Iterable[str]) -> str:
    listed = "\n".join(f"- {row}" for row in rows)
    return f"## {title}\n\n{listed}" if listed else ""


def _evaluation(decision: Decision) -> str:
    by_folds = ""
    folds = decision["folds"]
    if folds is not None:
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


def _text(value: str) -> str:
    """Escape a text for one line of Markdown; bytes that are not UTF-8 become question marks."""
    line = " ".join(value.encode("utf-8", "replace").decode().split())
    return _SPECIAL.sub(r"\\\1", line)
