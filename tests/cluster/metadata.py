"""Serves ML Metadata over gRPC, with its own library and a file: `metadata.py HOST:PORT FILE`."""

import sys
import threading
from concurrent import futures
from typing import Any

import grpc
from ml_metadata import errors
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from ml_metadata.proto import metadata_store_service_pb2 as messages


class MetadataStore(grpc.GenericRpcHandler):
    """The service, which passes each request to the library."""

    def __init__(self, file: str) -> None:
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = file
        self._store = metadata_store.MetadataStore(config)
        self._lock = threading.Lock()

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method, with the messages that belong to its name."""
        method = handler_call_details.method.rsplit("/", 1)[-1]
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(method, request, context),
            request_deserializer=getattr(messages, f"{method}Request").FromString,
            response_serializer=getattr(messages, f"{method}Response").SerializeToString,
        )

    def _answer(self, method: str, request: Any, context: Any) -> Any:
        """Pass a request to the library; an error of the library becomes a gRPC status."""
        response = getattr(messages, f"{method}Response")()
        try:
            with self._lock:
                self._store._call(method, request, response)
        except errors.StatusError as error:
            code = next(c for c in grpc.StatusCode if c.value[0] == error.error_code)
            context.abort(code, error.message)
        return response


if __name__ == "__main__":
    address, database = sys.argv[1:]
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[MetadataStore(database)])
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()
