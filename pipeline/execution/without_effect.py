"""Settings that somebody gave and that have no effect beside the others.

Combinations that would give another model than the one that was asked for are refused by
`Config`. The settings here only do nothing, so a run mentions them and goes on.
"""

from __future__ import annotations

from dataclasses import fields

from imgpipe.models.augmentation import ViewSpec
from imgpipe.pipeline.configuration.config import Config, changed

_BY_EPOCHS = ("epochs", "learning_rate", "schedule", "batch_size", "patience")
_OF_LAYERS = (*_BY_EPOCHS, "cut")
#: Settings without which the head is solved; see `ModelSettings.solved`.
_NOT_SOLVED = (
    *("train.optimizer", "model.hidden_units", "train.target_accuracy"),
    *("train.steps_per_epoch", "train.strategy"),
)


def notes(config: Config) -> list[str]:
    """Return a sentence for each setting that differs from its default and has no effect.

    Args:
        config: The validated configuration.
    """
    settings, given = config.settings, changed(config)
    reasons: dict[str, str] = {}
    solved = 'the head is solved. Set train.optimizer = "adam" to train it by epochs'
    if settings.solved:
        reasons |= {f"train.{name}": solved for name in _BY_EPOCHS}
    if not settings.solved:
        reasons["train.l2"] = "it belongs to a head that is solved"
    if not settings.views.count:
        none = "views.count is 0, so that no image is augmented"
        reasons |= {f"views.{field.name}": none for field in fields(ViewSpec)}
        del reasons["views.count"]
    if not settings.frozen:
        reasons["bank.budget"] = "all layers are trained, so that no features are stored"
        if settings.views.count > 1:
            reasons["views.count"] = (
                "all layers are trained, on images that are augmented anew in each epoch. Only 0, "
                "which augments none, makes a difference"
            )
    if settings.searches:
        reasons["fine_tune.patience"] = "the search trains each network for all of its epochs"
    else:
        why = _no_search(config, given)
        if given.get("train.minutes"):
            reasons["train.minutes"] = f"no better network is looked for, because {why}"
        if not settings.fine_tune.wanted:
            trained = f"no layer of the backbone is fine-tuned, because {why}"
            reasons |= {f"fine_tune.{name}": trained for name in _OF_LAYERS}
            if settings.frozen:
                reasons["train.precision"] = f"the head is trained in float32, and {trained}"
            if settings.solved:
                reasons["model.dropout"] = solved
    return [f"{name} has no effect: {why}." for name, why in reasons.items() if name in given]


def _no_search(config: Config, given: dict[str, object]) -> str:
    """Return why no better network than the head is looked for."""
    if config.evaluate.cross_validate > 0 and not config.fine_tune.wanted:
        return "evaluate.cross_validate evaluates heads"
    if config.fine_tune.mode != "search":
        return f'fine_tune.mode is "{config.fine_tune.mode}"'
    if not config.settings.frozen:
        return "all layers are trained from the start"
    if not config.settings.solved:
        names = [name for name in _NOT_SOLVED if name in given]
        say = "says" if len(names) == 1 else "say"
        return f"the head is not solved, but trained as {' and '.join(names)} {say}"
    return "train.minutes is 0"
