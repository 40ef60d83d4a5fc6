"""Limits linear algebra to one thread.

OpenBLAS uses as many threads as there are cores. On small matrices these wait for each other, which
costs more processor time than it saves, above all when another process needs the cores. With one
thread, sums and thus results do not depend on the number of cores either; the rounding still
depends on the kernel that OpenBLAS chooses for the processor.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Use one thread for the linear algebra of NumPy and SciPy in the block."""
    with _thread_pools().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """Return the thread pools of the loaded libraries. To find them takes milliseconds."""
    import scipy.linalg  # noqa: F401 - SciPy brings an OpenBLAS of its own, which must be loaded
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
