"""A pool of Beam workers that several runners may share.

Beam's own pool knows a worker by its identifier alone. Identifiers are unique within a runner:
every TaskManager of Flink calls its first worker ``1-1``. Where two runs, or two TaskManagers,
share Beam's pool, the first one that stops its worker stops the worker of the other, which then
waits for ever. This pool stops a worker only if it is certain whose worker that is. Other workers
end by themselves when their runner closes the connection.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections import defaultdict
from typing import Any

from apache_beam.portability.api import beam_fn_api_pb2 as messages
from apache_beam.runners.worker import worker_pool_main

_log = logging.getLogger(__name__)
_ENDPOINTS = ("logging", "artifact", "provision", "control")


class WorkerPool(worker_pool_main.BeamFnExternalWorkerPoolServicer):
    """Beam's service of a pool, with several workers of one identifier."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Create a pool; see Beam's class for the arguments."""
        super().__init__(*arguments, **named)
        self._lock = threading.Lock()
        # Those that have ended stay until their runner stops them.
        self._running: dict[str, list[subprocess.Popen[bytes]]] = defaultdict(list)

    def StartWorker(self, request: Any, context: Any) -> Any:
        """Start a worker process, whatever other workers have its identifier."""
        command = [str(self._container_executable), f"--id={request.worker_id}"]
        for name in _ENDPOINTS:
            command.append(f"--{name}_endpoint={getattr(request, f'{name}_endpoint').url}")
        try:
            worker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        except OSError as error:
            return messages.StartWorkerResponse(error=f"{command[0]} cannot be started: {error}")
        with self._lock:
            self._running[request.worker_id].append(worker)
            # Beam stops the processes in this dictionary when the pool ends.
            self._worker_processes[f"{request.worker_id} {worker.pid}"] = worker
        return messages.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:
        """Stop the worker of this identifier if there is one only."""
        with self._lock:
            workers = self._running[request.worker_id]
            ended = [worker for worker in workers if worker.poll() is not None]
            alive = len(workers) - len(ended)
            stopped = (ended or (workers if alive == 1 else []))[:1]
            for worker in stopped:
                workers.remove(worker)
                del self._worker_processes[f"{request.worker_id} {worker.pid}"]
        if not stopped and alive:
            _log.warning(
                "%d runners have a worker %r. None of these is stopped now; each ends when its "
                "runner closes the connection.",
                alive,
                request.worker_id,
            )
        for worker in stopped:
            worker_pool_main.kill_process_gracefully(worker)
        return messages.StopWorkerResponse()


def serve(port: int, executable: str) -> tuple[str, Any]:
    """Start a pool.

    Args:
        port: Port of the pool, 0 for any free port.
        executable: Program that starts a worker, with the flags of Beam's containers.

    Returns:
        The address of the pool, and its gRPC server.
    """
    address, server = WorkerPool.start(use_process=True, port=port, container_executable=executable)
    return str(address), server
