"""A bucket of Cloud Storage on loopback, which Cloud Storage FUSE mounts.

The server is fake-gcs-server and keeps the objects in memory. Cloud Storage FUSE is the real one.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

BUCKET = "hands"
_SECONDS = 30


@dataclass(frozen=True)
class Storage:
    """A running server of Cloud Storage with one bucket.

    Attributes:
        gcsfuse: Path of the program gcsfuse.
        address: URL of the server.
    """

    gcsfuse: Path
    address: str

    @contextmanager
    def mounted(self, folder: Path) -> Iterator[None]:
        """Mount all buckets as sub-folders of `folder`, as Vertex AI does below ``/gcs``.

        The options that turn features off are for the server, which has no gRPC and cannot move
        objects. Nothing is cached, because several mounts change the bucket.
        """
        command = [
            *(self.gcsfuse, "--foreground", "--implicit-dirs", "--anonymous-access"),
            *("--custom-endpoint", f"{self.address}/storage/v1/"),
            *("--enable-hns=false", "--enable-atomic-rename-object=false"),
            *("--metadata-cache-ttl-secs=0", "--log-severity=error", folder),
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            _wait(lambda: os.path.ismount(folder), process)
            yield
        finally:
            subprocess.run(["umount", "--lazy", folder], capture_output=True)
            process.terminate()
            process.communicate()


@contextmanager
def storage(server: Path, gcsfuse: Path) -> Iterator[Storage]:
    """Start a server with an empty bucket, and stop it when the block ends.

    Args:
        server: Path of fake-gcs-server.
        gcsfuse: Path of gcsfuse.
    """
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [
        *(server, "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"),
        *("-port", str(port), "-public-host", f"127.0.0.1:{port}", "-log-level", "error"),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait(lambda: _create(f"{address}/storage/v1/b"), process)
        yield Storage(gcsfuse, address)
    finally:
        process.terminate()
        process.communicate()


def _create(url: str) -> bool:
    """Create the bucket; return whether the server has answered."""
    body = json.dumps({"name": BUCKET}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except OSError:
        return False


def _wait(ready: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until a process that was started just now is ready."""
    end = time.monotonic() + _SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise RuntimeError(f"{process.args} did not start: {process.communicate()[1]}")
        time.sleep(0.05)
