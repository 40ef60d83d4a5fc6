"""The marker files of blessings: their names, reading and writing them.

A gate holds by data: each component that depends on a gate reads the marker file itself.
"""

import tensorflow as tf

from imgpipe.models.errors import DataRefused

BLESSED = "BLESSED"
NOT_BLESSED = "NOT_BLESSED"
INFRA_BLESSED = "INFRA_BLESSED"
INFRA_NOT_BLESSED = "INFRA_NOT_BLESSED"
#: File of an infra blessing that lists the validated files, as `manifest.describe` returns them.
VALIDATED = "validated.json"
VALIDATION = "validation.json"  # the checks of ServingValidator


def is_blessed(uri: str, name: str = BLESSED) -> bool:
    """Check whether a blessing artifact holds a marker file.

    Args:
        uri: URI of the blessing artifact.
        name: Name of the marker file. Default: `BLESSED`.
    """
    return bool(tf.io.gfile.exists(f"{uri}/{name}"))


def write(uri: str, name: str) -> None:
    """Write an empty marker file, as TFX's own gates do.

    Args:
        uri: URI of the blessing artifact, which is created when absent.
        name: Name of the marker file.
    """
    tf.io.gfile.makedirs(uri)
    with tf.io.gfile.GFile(f"{uri}/{name}", "w") as file:
        file.write("")


def require_data_blessing(uri: str) -> None:
    """Check that DataGate blessed the data.

    Args:
        uri: URI of the DataBlessing artifact.

    Raises:
        DataRefused: The artifact holds no `BLESSED` file.
    """
    if not is_blessed(uri):
        raise DataRefused(
            f"the data was not blessed: no {BLESSED} file in {uri}. Look at gate.json there for "
            "the reasons, correct the data or the limits under [gate], and run again."
        )
