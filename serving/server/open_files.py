"""The bound of open files of this process, of which every connection takes one."""

from __future__ import annotations

import resource

MAX_FILES = 65_536
"""More than the server ever needs; some systems allow a billion, and selectors allocate for it."""


def raise_limit() -> None:
    """Take what the system allows. The usual soft bound of 1,024 is there for ``select`` alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections(share: float, most: int) -> int:
    """How many connections a port may hold.

    Args:
        share: of the files that the process may open.
        most: connections at most, whatever the system allows.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, int(soft * share))
