"""Fakes on loopback of the services that Kubeflow Pipelines' programs use on a cluster.

They are ML Metadata and the cache of tasks over gRPC, a part of the Kubernetes API over HTTPS, and
an object store that speaks S3.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from tests.kubeflow import json_server
from tests.ports import free_port, listens

NAMESPACE, BUCKET = "kubeflow", "mlpipeline"
_SECRET = "mlpipeline-minio-artifact"
_LOOPBACK = "127.0.0.1"
_START_SECONDS = 30


@dataclass(frozen=True)
class Services:
    """The addresses and the records of the running services.

    Attributes:
        metadata_port: Port of ML Metadata, which speaks gRPC.
        pipelines_port: Port of the API server of Kubeflow Pipelines, which speaks gRPC.
        kubernetes_port: Port of the Kubernetes API, which speaks HTTPS.
        account: Folder with token, certificate and namespace, as in a pod.
        database: SQLite file of ML Metadata.
        asked: Paths that the Kubernetes API was asked for.
        cache: The tasks that the driver can take from the cache.
    """

    metadata_port: int
    pipelines_port: int
    kubernetes_port: int
    account: Path
    database: Path
    asked: list[str]
    cache: TaskCache


@contextmanager
def services(folder: Path, object_store: Path) -> Iterator[Services]:
    """Start all services, and stop them when the block ends.

    Args:
        folder: Folder for certificates, objects and the database of ML Metadata.
        object_store: Path of gofakes3, or of another program with its options.
    """
    account = folder / "account"
    account.mkdir(parents=True)
    key = _certificate(account)
    (account / "namespace").write_text(NAMESPACE)
    (account / "token").write_text("token")
    with ExitStack() as stack:
        s3 = stack.enter_context(_objects(object_store))
        asked: list[str] = []
        kubernetes = stack.enter_context(_kubernetes(account / "ca.crt", key, s3, asked))
        database = folder / "metadata.sqlite"
        metadata = stack.enter_context(_grpc(MetadataStore(database)))
        cache = TaskCache()
        pipelines = stack.enter_context(_grpc(cache))
        yield Services(metadata, pipelines, kubernetes, account, database, asked, cache)


class MetadataStore(grpc.GenericRpcHandler):
    """ML Metadata's gRPC service on top of its own library and SQLite."""

    def __init__(self, database: Path) -> None:
        from ml_metadata.metadata_store import metadata_store
        from ml_metadata.proto import metadata_store_pb2

        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(database)
        self._store = metadata_store.MetadataStore(config)
        self._lock = threading.Lock()

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method, with the messages that belong to its name."""
        from ml_metadata.proto import metadata_store_service_pb2 as messages

        method = handler_call_details.method.rsplit("/", 1)[-1]
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(method, request, context),
            request_deserializer=getattr(messages, f"{method}Request").FromString,
            response_serializer=getattr(messages, f"{method}Response").SerializeToString,
        )

    def _answer(self, method: str, request: Any, context: Any) -> Any:
        """Pass a request to the library; an error of the library becomes a gRPC status."""
        from ml_metadata import errors
        from ml_metadata.proto import metadata_store_service_pb2 as messages

        response = getattr(messages, f"{method}Response")()
        try:
            with self._lock:
                self._store._call(method, request, response)
        except errors.StatusError as error:
            code = next(c for c in grpc.StatusCode if c.value[0] == error.error_code)
            context.abort(code, error.message)
        return response


@dataclass
class TaskCache(grpc.GenericRpcHandler):
    """The TaskService of the API server, which finds tasks by their fingerprint.

    It stores requests and answers with them unchanged: a CreateTaskRequest with its one task has
    the same bytes as a ListTasksResponse with that task.
    """

    created: list[bytes] = field(default_factory=list)
    hits: int = 0

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of `CreateTaskV1` or `ListTasksV1`."""
        method = handler_call_details.method.rsplit("/", 1)[-1]
        answer = {"CreateTaskV1": self._create, "ListTasksV1": self._list}[method]
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer(request))

    def _create(self, request: bytes) -> bytes:
        """Store a task."""
        self.created.append(request)
        return b""

    def _list(self, request: bytes) -> bytes:
        """Return the last stored task with the fingerprint in the request, or no task."""
        wanted = re.search(rb"[0-9a-f]{64}", request)
        assert wanted, request
        found = next((task for task in reversed(self.created) if wanted[0] in task), b"")
        self.hits += bool(found)
        return found


@contextmanager
def _grpc(handler: grpc.GenericRpcHandler) -> Iterator[int]:
    """Serve a gRPC handler on a free port of loopback, which is yielded."""
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[handler])
    port = server.add_insecure_port(f"{_LOOPBACK}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(1).wait()


@contextmanager
def _objects(program: Path) -> Iterator[int]:
    """Run the object store on a free port of loopback, which is yielded."""
    port = free_port()
    options = ["-backend", "memory", "-initialbucket", BUCKET, "-quiet"]
    process = subprocess.Popen([program, "-host", f"{_LOOPBACK}:{port}", *options])
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not listens(port):
            assert time.monotonic() < deadline and process.poll() is None, "no object store"
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _kubernetes(certificate: Path, key: Path, s3: int, asked: list[str]) -> Iterator[int]:
    """Serve the launcher's ConfigMap and the Secret with the object store's keys.

    Yields:
        The port. The paths of all requests are appended to `asked`.
    """
    keys = {"accessKeyKey": "accesskey", "secretKeyKey": "secretkey"}
    minio = {
        "endpoint": f"{_LOOPBACK}:{s3}",
        "region": "minio",
        "disableSSL": True,
        "forcePathStyle": True,
        "credentials": {"fromEnv": False, "secretRef": {"secretName": _SECRET, **keys}},
    }
    word = base64.b64encode(b"minio").decode()
    of_namespace = f"/api/v1/namespaces/{NAMESPACE}"
    objects: dict[str, dict[str, Any]] = {
        f"{of_namespace}/configmaps/kfp-launcher": {
            "kind": "ConfigMap",
            "data": {"providers": json.dumps({"minio": {"default": minio}})},
        },
        f"{of_namespace}/secrets/{_SECRET}": {
            "kind": "Secret",
            "data": dict.fromkeys(keys.values(), word),
        },
    }
    missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}

    def answer(path: str, *_: object) -> tuple[int, object]:
        asked.append(path)
        found = objects.get(path)
        return 200 if found else 404, {"apiVersion": "v1", **(found or missing)}

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with json_server.running(answer, context) as port:
        yield port


def _certificate(folder: Path) -> Path:
    """Write a self-signed certificate for loopback and return the file of its key."""
    private = folder.parent / "key.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names = ("-subj", "/CN=kubernetes", "-addext", f"subjectAltName=IP:{_LOOPBACK}")
    files = ("-keyout", private, "-out", folder / "ca.crt")
    subprocess.run(
        ["openssl", "req", "-x509", *curve, *names, *files], check=True, capture_output=True
    )
    return private
