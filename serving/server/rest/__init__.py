"""The REST interface: TensorFlow Serving's paths, JSON and messages, over HTTP.

The modules, from the lowest layer to the highest: ``json_text`` parses JSON within limits,
``json_tensors`` and ``json_examples`` convert it to the inputs of a model, and ``json_answers``
converts outputs to JSON. ``paths`` parses URLs, and ``api`` answers one request. ``body`` and
``app`` are the ASGI application with its bodies, time limits, health checks and metrics, and
``listener`` runs it in a thread with uvicorn.

REST and gRPC requests use the same ``handle``, ``calls``, threads and limits. Four things differ
from TensorFlow Serving on purpose: nesting, bodies, headers and waiting times are bounded; strings
that are not UTF-8 are returned as ``{"b64": …}`` and not as broken JSON; there are URLs for health
checks; and SIGTERM lets running requests finish.
"""
