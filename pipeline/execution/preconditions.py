"""What can refuse a run before time is spent on its images.

`check` needs neither TensorFlow nor a folder that can be written. `check_layers` builds the
network.
"""

from __future__ import annotations

from imgpipe.models.settings import ModelSettings
from imgpipe.pipeline import inputs as run_inputs
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.source import require_classes, require_outside


def check(config: Config) -> None:
    """Refuse settings and sources with which no run can work.

    Args:
        config: The configuration, with absolute paths.

    Raises:
        ConfigError: A setting does not fit the others, the files or the classes.
    """
    run_inputs.check_files(config)
    require_outside(config)
    require_classes(config)


def check_layers(settings: ModelSettings) -> None:
    """Refuse names of layers that the network does not have.

    Args:
        settings: Settings of the network, whose weights are on this machine.

    Raises:
        ConfigError: There is no such layer, or the network cannot be cut at it.
    """
    looked_at = settings.frozen and (settings.fine_tune.wanted or settings.searches)
    tuned = settings.fine_tune.cut if looked_at else ""
    if not settings.cut and not tuned:
        return
    import keras

    from imgpipe.models.backbones import layer_graph

    pixels = keras.Input((settings.size, settings.size, 3))
    network = keras.Model(pixels, settings.backbone_spec().build(pixels))
    if tuned:
        layer_graph.layer_at(network, tuned)
