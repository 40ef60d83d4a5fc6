"""The limit of open files of this process. Every connection uses one file."""

from __future__ import annotations

import resource

MAX_FILES = 65_536
"""More files than the server needs. Some systems allow a billion, and selectors allocate memory for
all of them."""


def raise_limit() -> None:
    """Raise the soft limit to the hard limit; the usual soft limit of 1,024 is for ``select``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections(share: float, most: int) -> int:
    """Return the number of connections that a port may accept.

    Args:
        share: Fraction of the open files that the connections of the port may use.
        most: Largest number of connections, whatever the system allows.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, int(soft * share))
