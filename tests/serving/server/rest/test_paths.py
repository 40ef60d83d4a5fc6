"""URLs are parsed to the API's method and model.

The cases are those of upstream's http_rest_api_util_test.cc and http_rest_api_handler_test.cc.
"""

from __future__ import annotations

import re

import pytest
from imgpipe.serving.server.requests.handle import Spec

from imgpipe.serving.server.rest import paths
from imgpipe.serving.server.rest.paths import Target
from imgpipe.serving.server.status import Code, StatusError


@pytest.mark.parametrize(
    ("verb", "path", "expected"),
    [
        ("POST", "/v1/models/foo:predict", Target("predict", Spec("foo"))),
        ("POST", "/v1/models/foo/versions/50:classify", Target("classify", Spec("foo", 50))),
        ("POST", "/v1/models/foo/labels/a.b:regress", Target("regress", Spec("foo", None, "a.b"))),
        ("POST", "/V1/Models/Foo:Predict", Target("predict", Spec("Foo"))),
        ("POST", "/v1/models/a%2Fb%3a:predict", Target("predict", Spec("a/b:"))),
        ("POST", "/v1/models/f/labels/x%20y:predict", Target("predict", Spec("f", None, "x y"))),
        ("POST", "/v1/models/f/versions/0007:predict", Target("predict", Spec("f", 7))),
        ("GET", "/v1/models/foo", Target("status", Spec("foo"))),
        ("GET", "/v1/models/foo/versions/50", Target("status", Spec("foo", 50))),
        ("GET", "/v1/models/foo/labels/x", Target("status", Spec("foo", None, "x"))),
        ("GET", "/v1/models/foo/metadata", Target("metadata", Spec("foo"))),
        ("GET", "/v1/models/foo/versions/5/metadata", Target("metadata", Spec("foo", 5))),
        ("GET", "/v1/models/ü", Target("status", Spec("ü"))),
        (
            "GET",
            f"/v1/models/foo/versions/{2**63 - 1}",
            Target("status", Spec("foo", 2**63 - 1)),
        ),
    ],
)
def test_valid_paths_are_parsed(verb, path, expected):
    assert paths.is_api(path)
    assert paths.parse(verb, path) == expected


@pytest.mark.parametrize(
    ("verb", "path", "words"),
    [
        ("GET", "/v1/foo", "Malformed request: GET /v1/foo"),
        ("POST", "/v1/foo", "Malformed request: POST /v1/foo"),
        ("POST", "/v1/models", "Malformed request: POST /v1/models"),
        ("GET", "/v1/models/foo:predict", "Malformed request: GET /v1/models/foo:predict"),
        ("PUT", "/v1/models/foo:predict", "Malformed request: PUT"),
        ("POST", "/v1/models/foo/version/50:predict", "Malformed request"),
        ("POST", "/v1/models/foo/versions/HELLO:regress", "Malformed request"),
        ("POST", "/v1/models/foo/versions/-1:regress", "Malformed request"),
        ("POST", "/v1/models/foo/versions/1/labels/x:predict", "Malformed request"),
        ("POST", "/v1/models/foo:predict?x=1", "Malformed request"),
        ("POST", "/v1/models/:predict", "Malformed request"),
        ("GET", "/v1/models", "Missing model name in request."),
        ("GET", "/v1/models/metadata/", "Malformed request"),
        (
            "POST",
            f"/v1/models/foo/versions/{2**64 - 1}:regress",
            f"Failed to convert version: {2**64 - 1} to numeric.",
        ),
        ("GET", f"/v1/models/foo/versions/{'9' * 5000}", "Failed to convert version: 9"),
    ],
)
def test_invalid_paths_are_refused(verb, path, words):
    with pytest.raises(StatusError, match=f"^{re.escape(words)}") as error:
        paths.parse(verb, path)
    assert error.value.code == Code.INVALID_ARGUMENT


def test_only_paths_below_v1_belong_to_the_api():
    assert [paths.is_api(p) for p in ("/v1/models", "/V1/", "/statuspage", "/index", "/v1")] == [
        True,
        True,
        False,
        False,
        False,
    ]
