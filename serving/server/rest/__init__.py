"""The REST interface: TensorFlow Serving's paths and JSON over HTTP.

`port` runs an ASGI application with uvicorn, and `requests` reads bodies within limits and
refuses pages of other sites; pages for people use both too. `json_tensors` converts between JSON
and arrays, and `app` answers the requests with the models, threads and limits of gRPC.

Three things differ from TensorFlow Serving on purpose: bodies, nesting, numbers of values and
waiting times are bounded; NaN and infinity are refused in requests and `null` in answers; and
there are URLs for health checks.
"""
