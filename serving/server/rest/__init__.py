"""The REST interface: TensorFlow Serving's paths, JSON and messages, over HTTP.

Bottom up: ``json_text`` (bytes to JSON, bounded), ``json_tensors`` and ``json_examples`` (JSON to
what a model takes), ``json_answers`` (what it gives to JSON) - ``paths`` (what a URL means) -
``api`` (one request, from its bytes to its answer) - ``body`` and ``app`` (the ASGI application:
bodies, time limits, health, metrics page) - ``listener`` (uvicorn in a thread).

A request does what its gRPC twin does, through ``handle`` and ``calls``, in the same threads and
under the same limits. Better than upstream on purpose: nesting, bodies, headers and waiting are
bounded; strings that are no UTF-8 come back as ``{"b64": …}`` and not as broken JSON; there are
URLs of health; SIGTERM lets running requests finish.
"""
