"""Settings that somebody gave and that do nothing beside the others."""

from __future__ import annotations

from dataclasses import fields

from imgpipe.models.settings.network import ViewSpec
from imgpipe.pipeline.configuration.config import Config, changed

#: Settings of a training by epochs, in [train] and in [fine_tune].
_BY_EPOCHS = ("epochs", "learning_rate", "schedule", "batch_size", "patience")


def without_effect(config: Config) -> list[str]:
    """Return a sentence for each setting that somebody gave and that does nothing beside others.

    Combinations that would give another model than the one that was asked for are refused by
    `Config`. The settings here are mentioned, and the run goes on.
    """
    settings = config.settings
    given = changed(config)
    reasons: dict[str, str] = {}
    if settings.solved:
        solved = 'the head is solved. Set train.optimizer = "adam" to train it by epochs'
        reasons |= {f"train.{name}": solved for name in _BY_EPOCHS}
    if settings.views.builder:
        own = "views.builder makes the views"
        made_by_settings = {field.name for field in fields(ViewSpec)} - {"count", "builder"}
        reasons |= {f"views.{name}": own for name in made_by_settings}
    if not settings.views.count:
        none = "views.count is 0, so that no image is augmented"
        reasons |= {f"views.{field.name}": none for field in fields(ViewSpec)}
        del reasons["views.count"]
    if not settings.frozen:
        reasons["bank.budget"] = "all layers are trained, so that no features are stored"
    if not settings.searches:
        if settings.minutes != 0:  # which asks for no search
            reasons["train.minutes"] = "no better network is looked for beside the other settings"
        if settings.fine_tune.mode != "on":
            head = "only the head is trained beside the other settings"
            reasons |= {f"fine_tune.{name}": head for name in (*_BY_EPOCHS, "cut")}
    return [f"{name} has no effect: {why}." for name, why in reasons.items() if name in given]
