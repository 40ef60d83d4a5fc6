"""The model card of a published version, which people and the Hugging Face Hub read.

The block between the dashes holds the fields of the Hub's card
(https://huggingface.co/docs/hub/model-cards). Servers ignore the file, and people may change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from imgpipe.components.image_evaluator.decision import FOLDS, Decision

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
        _evaluation(decision) if decision and decision["decided_by"]["accuracy"] else "",
        _list("Origin", (f"{key}: {_text(str(value))}" for key, value in origin.items() if value)),
        "## Limits\n\nThe model knows only its classes. An image that shows none of them may be "
        "given the name of one. The figures hold for images like those that it was evaluated on.",
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _list(title: str, rows: Iterable[str]) -> str:
    listed = "\n".join(f"- {row}" for row in rows)
    return f"## {title}\n\n{listed}" if listed else ""


def _evaluation(decision: Decision) -> str:
    how = (
        "The exported model itself was evaluated, on the encoded images of the validation split. "
        "These images were also used to choose and calibrate the model"
    )
    if decision["decided_by"]["kind"] == FOLDS:
        how = (
            "Each image of train and validation was classified by a model that was trained in the "
            "same way without it. The same images were also used to choose and calibrate the model"
        )
    return (
        f"## Evaluation\n\n{decision['figures'].capitalize()}. This accuracy decided whether the "
        f"model was published. {how}, so that new images may give a lower figure."
    )


def _text(value: str) -> str:
    """Escape a text for one line of Markdown; bytes that are not UTF-8 become question marks."""
    line = " ".join(value.encode("utf-8", "replace").decode().split())
    return _SPECIAL.sub(r"\\\1", line)
