"""The address at which a browser on this machine opens a page that this machine serves."""

from __future__ import annotations

#: Addresses that stand for all networks of this machine. They cannot be opened, because
#: `same_site` lets connections from this machine name only its loopback addresses.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def host_to_open(host: str) -> str:
    """Return the host in the address of a page, with brackets around an IPv6 address.

    Args:
        host: The address to which the server is bound, with or without brackets.
    """
    bare = host.strip("[]")
    bare = _LOOPBACK.get(bare, bare)
    return f"[{bare}]" if ":" in bare else bare
