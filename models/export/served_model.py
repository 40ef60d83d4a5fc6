"""Runs one signature of an exported model in a graph session, as TensorFlow Serving does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from imgpipe.models.export.signatures import SERVING_DEFAULT


class Served:
    """One signature of a SavedModel, loaded into a graph session.

    Args:
        directory: Folder of the SavedModel.
        signature: Name of the signature.
        outputs: Names of the outputs to compute; None computes all of them.
    """

    def __init__(
        self,
        directory: str,
        signature: str = SERVING_DEFAULT,
        outputs: Collection[str] | None = None,
    ) -> None:
        import tensorflow as tf

        # A session and not `tf.saved_model.load`, which runs models that fail in TensorFlow
        # Serving (tensorflow/serving#2250).
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._session = tf.compat.v1.Session(graph=self._graph)
            meta = tf.compat.v1.saved_model.load(self._session, ["serve"], directory)
        definition = meta.signature_def[signature]
        self._inputs = {key: info.name for key, info in definition.inputs.items()}
        self._outputs = {
            key: info.name
            for key, info in definition.outputs.items()
            if outputs is None or key in outputs
        }

    def run(self, **inputs: Any) -> dict[str, Any]:
        """Run the signature once.

        Args:
            **inputs: Value of each input of the signature, by its name.

        Returns:
            The outputs by name, as numpy arrays.
        """
        feeds = {self._inputs[name]: value for name, value in inputs.items()}
        return dict(self._session.run(self._outputs, feeds))

    def close(self) -> None:
        """Frees the session."""
        self._session.close()
