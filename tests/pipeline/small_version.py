"""Pushes a version of a small network without a run."""

from pathlib import Path

CLASSES = ("paper", "rock")


def push(out: Path, seed: int = 1, unknown_below: float = 0.0, learned: bool = False) -> Path:
    """Push a network with random weights as the next version into an output folder.

    `learned` says whether the version has answers of folds, as if it had learned from validation.
    """
    import keras

    from imgpipe.components.model_pusher import versions
    from imgpipe.models.export.saved_model import export, write_digest
    from imgpipe.models.names import OUT_OF_FOLD_FILE
    from imgpipe.models.network import network_file
    from imgpipe.models.network.classifier import build_classifier
    from imgpipe.models.settings.model import ModelSettings

    keras.utils.set_random_seed(seed)
    settings = ModelSettings(backbone="conv_4_8", weights="none", image_size=24)
    classifier = build_classifier(None, list(CLASSES), settings, unknown_below=unknown_below)
    made = out / f"made-{seed}"
    export(classifier, str(made))
    network_file.save(classifier, settings, str(made))
    write_digest(classifier, str(made), top_k=2)
    if learned:
        (made / OUT_OF_FOLD_FILE).write_bytes(b"answers of the folds")
    published = versions.publish(out / "model", {"": made}, {"vocabulary": list(CLASSES)})
    assert published is not None
    return published.path
