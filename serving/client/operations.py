"""The operations of a client: the calls that each makes, and how replies become results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from google.protobuf import empty_pb2

from imgpipe.serving.client import images as image_module
from imgpipe.serving.client import messages, protos, results
from imgpipe.serving.client.classifying import Classifying, Loaded, Settings
from imgpipe.serving.client.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from imgpipe.serving.client.images import CHUNK_BYTES, CHUNK_IMAGES, Image
from imgpipe.serving.client.messages import Example, Servable
from imgpipe.serving.client.options import Connection
from imgpipe.serving.client.protos import Method
from imgpipe.serving.client.steps import Call, Operation, Pause, Together, Work

_ATTEMPTS_AT_ONE_VERSION = 3
"""How often an image that needs several requests is sent while the server changes its version."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0  # while waiting for a model

Answer = results.Classification | InvalidArgument
"""The result for one image of many: its classification or its error."""
Progress = Callable[[int, Sequence[Answer]], None]
"""Function that is called with the index of the first image of a chunk, and with its answers."""


class Operations:
    """The operations on one model of one server.

    Args:
        connection: The server, and how to connect to it.
        servable: The model, and at most one of a version and a label.

    Raises:
        InvalidArgument: The name of the model is empty, or a version and a label are given.
    """

    def __init__(self, connection: Connection, servable: Servable) -> None:
        if not servable.name:
            raise InvalidArgument("The name of the model must not be empty.")
        if servable.version is not None and servable.label is not None:
            raise InvalidArgument(
                "Select a model by version or by label, not by both. "
                f"Received: version {servable.version} and label {servable.label!r}."
            )
        self.connection, self.servable = connection, servable
        self._input_types: dict[str, dict[str, np.dtype[Any]]] = {}  # by signature and input

    def _call(
        self,
        method: Method,
        request: Any,
        timeout: float | None = None,
        wait_for_ready: bool | None = None,
    ) -> Call:
        seconds = self.connection.timeout if timeout is None else timeout
        if not seconds > 0:
            raise InvalidArgument(
                f"timeout must be a number of seconds above 0. Received: {timeout!r}."
            )
        wait = self.connection.wait_for_ready if wait_for_ready is None else wait_for_ready
        return Call(method, request, seconds, wait)

    # --- tensors and examples --------------------------------------------------------------------
    def predict(
        self,
        inputs: Mapping[str, Any],
        signature_name: str = "",
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Operation[results.Prediction]:
        """Send one Predict request; see `Client.predict`.

        Raises:
            InvalidArgument: The inputs do not fit the signature.
        """
        known = self._input_types.get(signature_name)
        values = messages.converted(inputs, known) if known else inputs

        def call(values: Mapping[str, Any]) -> Call:
            request = messages.predict_request(self.servable, values, signature_name, output_filter)
            return self._call(protos.PREDICT, request, timeout)

        try:
            return messages.prediction((yield call(values)))
        except InvalidArgument as error:
            # Lists of Python numbers have no dtype. Where the server refuses the default dtype,
            # the client reads the signature and uses its dtypes from then on, until the server
            # refuses them too: a new version may have others.
            if not error.from_server or not messages.untyped(inputs):
                raise
            refused = error
        asked = messages.metadata_request(self.servable)
        described = yield self._call(protos.METADATA, asked, timeout)
        types = messages.input_types(described, signature_name)
        self._input_types[signature_name] = types
        if not types or types == known:
            raise refused
        return messages.prediction((yield call(messages.converted(inputs, types))))

    def classify_examples(
        self,
        examples: Sequence[Example],
        signature_name: str,
        context: Example | None,
        timeout: float | None,
    ) -> Operation[results.Rankings]:
        """Send one Classify request; see `Client.classify_examples`."""
        request = messages.examples_request(
            protos.ClassificationRequest(), self.servable, examples, signature_name, context
        )
        return messages.rankings((yield self._call(protos.CLASSIFY, request, timeout)))

    def regress_examples(
        self,
        examples: Sequence[Example],
        signature_name: str,
        context: Example | None,
        timeout: float | None,
    ) -> Operation[results.Regressions]:
        """Send one Regress request; see `Client.regress_examples`."""
        request = messages.examples_request(
            protos.RegressionRequest(), self.servable, examples, signature_name, context
        )
        return messages.regressions((yield self._call(protos.REGRESS, request, timeout)))

    def multi_inference(
        self,
        tasks: Mapping[str, str],
        examples: Sequence[Example],
        context: Example | None,
        timeout: float | None,
    ) -> Operation[dict[str, results.Rankings | results.Regressions]]:
        """Send one MultiInference request; see `Client.multi_inference`."""
        request = messages.multi_inference_request(self.servable, tasks, examples, context)
        return messages.inferences((yield self._call(protos.MULTI_INFERENCE, request, timeout)))

    # --- images ----------------------------------------------------------------------------------
    def classify(
        self, images: Sequence[Image], options: Classifying
    ) -> Operation[list[results.Classification]]:
        """Classify images and raise the error of the first bad image; see `Client.classify`.

        Raises:
            InvalidArgument: An image cannot be read or decoded.
        """
        answers = yield from self.classify_each(images, options, None, strict=True)
        return cast("list[results.Classification]", answers)

    def classify_each(
        self,
        images: Sequence[Image],
        options: Classifying,
        progress: Progress | None,
        strict: bool = False,
    ) -> Operation[list[Answer]]:
        """Classify images in chunks, several of them at a time; see `Client.classify_each`."""
        settings = Settings.of(options, strict)
        operations = [
            self._chunk(start, chunk, settings, progress)
            for start, chunk in _chunks(images, settings)
        ]
        if len(operations) == 1:  # needs no threads
            return (yield from operations[0])
        lists = yield Together(operations, settings.at_once)
        return [answer for answers in lists for answer in answers]

    def _chunk(
        self, start: int, images: Sequence[Image], settings: Settings, progress: Progress | None
    ) -> Operation[list[Answer]]:
        def load() -> list[Loaded | InvalidArgument]:
            return [settings.load(index, image) for index, image in enumerate(images, start)]

        # Encoded bytes need no work, so they do not take the detour over a thread.
        ready = settings.growth == 1 and all(isinstance(image, bytes) for image in images)
        loaded: list[Loaded | InvalidArgument] = load() if ready else (yield Work(load))
        good = [entry for entry in loaded if not isinstance(entry, InvalidArgument)]
        # Only now are the sizes of all views known.
        received: list[Answer] = []
        for part in image_module.chunks([sum(map(len, views)) for _, views in good]):
            received += yield from self._ask(good[part], settings)
        in_order = iter(received)
        answers = [
            entry if isinstance(entry, InvalidArgument) else next(in_order) for entry in loaded
        ]
        if progress is not None:
            progress(start, answers)
        return answers

    def _ask(
        self, loaded: Sequence[Loaded], settings: Settings, whole: bool = True
    ) -> Operation[list[Answer]]:
        """Classify images of one chunk; ``whole`` is False for a part of a refused request."""
        views = [view for _, parts in loaded for view in parts]
        try:
            answer = yield from self._predict_views(views, settings)
        except InvalidArgument as error:
            if whole:
                yield from self._check_request(error, settings)
            if len(loaded) == 1:
                named = InvalidArgument(f"{loaded[0][0]}: {error}")
                if settings.strict:
                    raise named from error
                return [named]
            # A server refuses the whole request for one bad image. Halving the request until the
            # bad image is alone finds out which one it is.
            half = len(loaded) // 2
            first = yield from self._ask(loaded[:half], settings, whole=False)
            return first + (yield from self._ask(loaded[half:], settings, whole=False))
        except ResourceExhausted as error:
            # A server that is overloaded says the same, but of no single image.
            if settings.strict or len(loaded) > 1 or max(map(len, views)) <= CHUNK_BYTES:
                raise
            return [InvalidArgument(f"{loaded[0][0]} is too large for the server: {error}")]
        return list(messages.classifications(answer, len(loaded), settings.top, settings.views))

    def _predict_views(
        self, views: Sequence[bytes], settings: Settings
    ) -> Operation[results.Prediction]:
        """Send views in one request, or those of one large image in several.

        Raises:
            Unavailable: The requests for one image were answered by different versions.
        """
        for _ in range(_ATTEMPTS_AT_ONE_VERSION):
            answers = []
            for part in image_module.chunks([len(view) for view in views], len(views)):
                # Their dtype shows that they are no numbers, for which `predict` needs a signature.
                inputs = {settings.input_name: np.array(views[part], dtype=object)}
                answers.append(
                    (yield from self.predict(inputs, settings.signature_name, (), settings.timeout))
                )
            versions = {answer.version for answer in answers}
            if len(versions) == 1:
                return messages.joined(answers)
        raise Unavailable(
            f"Several versions of model {self.servable.name!r} answered for one image: "
            f"{sorted(versions)}. Name one version, or try again when the server has only one."
        )

    def _check_request(self, refused: InvalidArgument, settings: Settings) -> Operation[None]:
        """Raise the error of a request that would be refused for any image.

        Raises:
            ServingError: The server does not know the label, or the model has no such signature or
                no such input of encoded images.
        """
        asked = messages.metadata_request(self.servable)
        try:
            described = yield self._call(protos.METADATA, asked, settings.timeout)
        except (Unimplemented, PermissionDenied):
            return  # a model in this process, or a gateway, may only answer predictions
        if not messages.takes_strings(described, settings.signature_name, settings.input_name):
            raise refused

    # --- models ----------------------------------------------------------------------------------
    def status(
        self, version: int | None, timeout: float | None
    ) -> Operation[list[results.VersionStatus]]:
        """Ask for the states of the model's versions; see `Client.status`."""
        request = messages.status_request(Servable(self.servable.name, version))
        return messages.statuses((yield self._call(protos.STATUS, request, timeout)))

    def models(self, timeout: float | None) -> Operation[list[results.ModelStatus]]:
        """Ask for all models of the server; see `Client.models`.

        Raises:
            Unimplemented: The server is not imgpipe's and does not list its models.
        """
        try:
            reply = yield self._call(protos.MODELS, empty_pb2.Empty(), timeout)
        except (Unimplemented, InvalidArgument, NotFound) as error:
            if not error.from_server:
                raise
            # TensorFlow Serving answers UNIMPLEMENTED over gRPC and HTTP status 400 over REST.
            raise Unimplemented(
                f"The server at {self.connection.target} does not list its models: only imgpipe's "
                "server does, and TensorFlow Serving does not. Name a model and call `status()`. "
                f"The server's answer: {error}"
            ) from error
        return messages.model_list(reply)

    def ready(self, timeout: float | None) -> Operation[bool]:
        """Ask whether the model can answer; see `Client.ready`."""
        try:
            # Without waiting for a server: that none answers is an answer here.
            states = yield from self._states(self.servable.version, timeout, False)
        except (Unavailable, NotFound, DeadlineExceeded):
            return False
        return any(version.state == "AVAILABLE" for version in states)

    def _states(
        self, version: int | None, timeout: float | None, wait_for_ready: bool
    ) -> Operation[list[results.VersionStatus]]:
        """Ask for the states of ``version``, else of the label's version, else of all versions.

        Raises:
            NotFound: The server does not know the model, the version or the label.
        """
        if version is None and self.servable.label is not None:
            # Servers ignore a label in the question for the status.
            asked = messages.metadata_request(self.servable)
            try:
                described = yield self._call(protos.METADATA, asked, timeout, wait_for_ready)
            except (InvalidArgument, FailedPrecondition) as error:
                if not error.from_server:
                    raise
                raise NotFound(str(error)) from error
            version = described.model_spec.version.value
        request = messages.status_request(Servable(self.servable.name, version))
        reply = yield self._call(protos.STATUS, request, timeout, wait_for_ready)
        return messages.statuses(reply)

    def metadata(self, timeout: float | None) -> Operation[results.Metadata]:
        """Ask for the signatures of the model; see `Client.metadata`."""
        request = messages.metadata_request(self.servable)
        return messages.metadata((yield self._call(protos.METADATA, request, timeout)))

    def reload(self, config: str, timeout: float | None) -> Operation[None]:
        """Send a new model configuration to the server; see `Client.reload`."""
        yield self._call(protos.RELOAD, messages.reload_request(config), timeout)

    def wait_until_available(self, timeout: float, version: int | None) -> Operation[int]:
        """Ask for the state until a version is available; see `Client.wait_until_available`.

        Raises:
            DeadlineExceeded: No version is available within ``timeout`` seconds.
        """
        version = self.servable.version if version is None else version
        deadline = time.monotonic() + timeout
        pause, last = _FIRST_PAUSE_S, "no answer yet"
        while (left := deadline - time.monotonic()) > 0:
            limit = min(left, self.connection.timeout)
            try:
                states = yield from self._states(version, limit, True)
            except (NotFound, DeadlineExceeded, Unavailable) as error:
                last = str(error)
            else:
                newest = _newest_available(states, self.servable.name)
                if newest is not None:
                    return newest
                last = ", ".join(f"version {s.version} {s.state}" for s in states)
            yield Pause(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        raise DeadlineExceeded(
            f"Model {self.servable.name!r} at {self.connection.target} is not available after "
            f"{timeout:g} s: {last}."
        )


def _newest_available(states: Sequence[results.VersionStatus], model: str) -> int | None:
    available = [state.version for state in states if state.state == "AVAILABLE"]
    if available:
        return max(available)
    failed = [state for state in states if state.state == "END" and state.error_code]
    if failed and len(failed) == len(states):
        raise Unavailable(
            f"Version {failed[0].version} of model {model!r} failed to load: "
            f"{failed[0].error_message}"
        )
    return None


def _chunks(images: Sequence[Image], settings: Settings) -> Iterator[tuple[int, list[Image]]]:
    """Yield the index of the first image and the images of each request, without reading files."""
    if isinstance(images, np.ndarray) and images.ndim == 4:
        images = list(images)
    if isinstance(images, str | bytes) or not isinstance(images, Sequence):
        raise InvalidArgument(
            f"classify expects a list of images. Received a single {type(images).__name__}."
        )
    sizes = [
        image_module.size_of(image_module.check(image, index)) * settings.growth
        for index, image in enumerate(images)
    ]
    # Each view is an image of its own for the server.
    for part in image_module.chunks(sizes, max(1, CHUNK_IMAGES // settings.views)):
        yield part.start, list(images[part])
