"""The servers of the REST tests, for the page that they show."""

from tests.serving.server.rest.conftest import serve

__all__ = ["serve"]
