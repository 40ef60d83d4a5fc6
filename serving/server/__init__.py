"""Embedded model server that speaks TensorFlow Serving's protocol.

It is meant for a single machine, for tests and for the serving check; production traffic belongs on
tensorflow/serving itself. TensorFlow is only imported when a server is created.

The modules, from the lowest layer to the highest; `predict` is a good one to read first:

* `settings`, which are the flags and the served model, and which all others receive;
* version directories: `storage`;
* one loaded model: `runtime`, a TensorFlow session;
* one request: `limits`, `predict`, which gRPC and REST share, and `calls` around it, which
  `metrics` observes and `request_log` records through the `writer`;
* the versions of the model, and access to them: `version`, `manager`;
* the interfaces: `services` and `grpc_port` (gRPC), `rest` (HTTP), `web` (the page);
* `server` with `ModelServer`, and the program `model_server`.
"""
