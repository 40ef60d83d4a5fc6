"""The fixture `serve` of the REST tests, for tests of the web page."""

from tests.serving.server.rest.conftest import serve

__all__ = ["serve"]
