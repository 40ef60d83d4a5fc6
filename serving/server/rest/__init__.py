"""The REST interface: TensorFlow Serving's paths, JSON and messages, over HTTP.

Bottom up: ``json_text`` (bytes to JSON, bounded), ``json_tensors`` and ``json_examples`` (JSON to
what a model takes), ``json_answers`` (what it gives to JSON) - ``paths`` (what a URL means) -
``api`` (one request, from its bytes to its answer) - ``body`` and ``app`` (the ASGI application:
bodies, time limits, health, metrics page) - ``listener`` (uvicorn in a thread).

REST and gRPC requests use the same ``handle``, ``calls``, threads and limits. Differences from
TensorFlow Serving on purpose: nesting, bodies, headers and waiting times are bounded; strings that
are not UTF-8 are returned as ``{"b64": …}`` and not as broken JSON; there are health check URLs;
SIGTERM lets running requests finish.
"""
