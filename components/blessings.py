"""Reading blessings: a gate holds by data, so what it guards looks at the file itself."""

import tensorflow as tf

from imgpipe.models.errors import DataRefused

BLESSED = "BLESSED"
NOT_BLESSED = "NOT_BLESSED"
INFRA_BLESSED = "INFRA_BLESSED"
INFRA_NOT_BLESSED = "INFRA_NOT_BLESSED"
#: In an infra blessing: the files that were validated, as of `manifest.describe`.
VALIDATED = "validated.json"
#: Of every comparison with a limit: TFMA's accuracies are float32, where 9 of 10 comes out as
#: 0.89999998, and must reach 0.9.
SLACK = 1e-6


def is_blessed(uri: str, name: str = BLESSED) -> bool:
    """Whether the blessing artifact at `uri` says yes."""
    return bool(tf.io.gfile.exists(f"{uri}/{name}"))


def write(uri: str, name: str) -> None:
    """Write an empty marker file, as TFX's own gates do."""
    tf.io.gfile.makedirs(uri)
    with tf.io.gfile.GFile(f"{uri}/{name}", "w") as file:
        file.write("")


def require_data_blessing(uri: str) -> None:
    """Refuse to work on data that DataGate did not bless.

    Raises:
      DataRefused: the blessing artifact holds no BLESSED file.
    """
    if not is_blessed(uri):
        raise DataRefused(
            f"the data was not blessed: no {BLESSED} file in {uri}. Look at gate.json there for "
            "the reasons, mend the data or the limits under [gate], and run again."
        )
