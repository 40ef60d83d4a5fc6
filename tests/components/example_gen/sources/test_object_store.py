"""Object stores: what is listed and read, and the errors without the package or the network."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from imgpipe.components.example_gen.sources import open_source
from imgpipe.components.example_gen.sources.object_store import ObjectStoreSource
from imgpipe.models.errors import ResourceError
from tests.components.example_gen.sources.trees import noted

PHOTOS = {
    "photos/cats/a.jpg": b"one",
    "photos/cats/deep/b.jpg": b"two!",
    "photos/dogs/c d+é.jpg": b"three",
    "photos/loose.jpg": b"x",
    "photos/.hidden/d.jpg": b"y",
    "other/e/f.jpg": b"z",
}


class Bucket:
    """A local HTTP server with one bucket, with S3's ListObjectsV2 and GetObject."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = dict(objects)
        self.read: list[str] = []
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                address = urlsplit(self.path)
                key = unquote(address.path).removeprefix("/bucket").lstrip("/")
                if not key:
                    self._answer(200, bucket._listing(parse_qs(address.query)), {})
                elif key in bucket.objects:
                    bucket.read.append(key)
                    self._answer(200, bucket.objects[key], {"ETag": bucket._tag(key)})
                else:
                    self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {})

            def do_HEAD(self) -> None:
                self._answer(404, b"", {})

            def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _tag(self, key: str) -> str:
        return f'"{hashlib.md5(self.objects[key]).hexdigest()}"'

    def _listing(self, query: dict[str, list[str]]) -> bytes:
        prefix = query.get("prefix", [""])[0]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size>"
            f"<ETag>{escape(self._tag(key))}</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, data in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        head = "<IsTruncated>false</IsTruncated><Name>bucket</Name>"
        return f"<ListBucketResult>{head}{rows}</ListBucketResult>".encode()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Yield a bucket on loopback and set the environment so that S3 clients use it."""
    pytest.importorskip("s3fs", reason="needs the extra object-store")
    started = Bucket(PHOTOS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", started.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    yield started
    s3fs.S3FileSystem.clear_instance_cache()
    started.server.shutdown()
    started.server.server_close()


def test_folders_are_classes_and_a_scan_of_s3_reads_no_image(bucket: Bucket):
    source = open_source("s3://bucket/photos")
    scan = source.scan()
    assert scan.vocabulary == ("cats", "dogs")
    labels = {item.path: item.label for item in scan.items}
    assert labels == {
        "cats/a.jpg": "cats",
        "cats/deep/b.jpg": "cats",
        "dogs/c d+é.jpg": "dogs",
        "loose.jpg": None,
    }
    assert ("hidden", ".hidden") in noted(scan)
    assert bucket.read == []
    contents = {item.path: source.read(item) for item in scan.items}
    assert contents == {path: PHOTOS[f"photos/{path}"] for path in labels}


def test_the_fingerprint_changes_with_the_content_alone(bucket: Bucket):
    source = open_source("s3://bucket/photos/")
    before = source.scan().fingerprint
    assert source.scan().fingerprint == before
    bucket.objects["photos/cats/a.jpg"] = b"eno"  # the same size as before
    changed = source.scan().fingerprint
    assert changed != before
    bucket.objects["photos/dogs/new.jpg"] = b"new"
    assert source.scan().fingerprint not in (before, changed)


def test_an_object_that_was_changed_or_deleted_since_the_listing_is_an_error(bucket: Bucket):
    source = open_source("s3://bucket/photos")
    changed, gone = source.listing().items[:2]
    bucket.objects[f"photos/{changed.path}"] = b"much longer"
    with pytest.raises(OSError, match="has 11 bytes, but 3 when it was listed"):
        source.read(changed)
    del bucket.objects[f"photos/{gone.path}"]
    with pytest.raises(OSError, match="NoSuchKey"):
        source.read(gone)


def test_a_store_that_does_not_answer_is_named(bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(
        ResourceError, match=r"(?s)'s3://bucket/photos' cannot be listed: .*network"
    ):
        open_source("s3://bucket/photos").listing()


def test_a_store_that_lists_no_checksums_is_read_and_hashed(tmp_path: Path):
    uri = f"file://{tmp_path}/photos"
    for path, data in PHOTOS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    scan = ObjectStoreSource(uri).scan()
    found = {item.path: item.sha256 for item in scan.items}
    assert found["cats/a.jpg"] == hashlib.sha256(b"one").hexdigest()
    assert scan.vocabulary == ("cats", "dogs")
    assert scan.fingerprint == open_source(str(tmp_path / "photos")).scan().fingerprint
