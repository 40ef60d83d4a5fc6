"""Object stores: what is listed and read, and the errors without the package or the network."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from imgpipe.components.example_gen.sources import object_store, read_source, rules
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.settings.data import DataSettings, JudgeSettings
from tests.components.example_gen.sources.trees import noted
from tests.components.filtered import Run
from tests.images import encoded, noise

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
        self.forbidden: set[str] = set()
        self.read: list[str] = []
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                address = urlsplit(self.path)
                key = unquote(address.path).removeprefix("/bucket").lstrip("/")
                if not key:
                    self._answer(200, bucket._listing(parse_qs(address.query)), {})
                elif key in bucket.forbidden:
                    self._answer(403, b"<Error><Code>AccessDenied</Code></Error>", {})
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


def test_folders_are_classes_and_planning_reads_no_image(bucket: Bucket):
    images = read_source("s3://bucket/photos").hashed()
    assert images.classes == ("cats", "dogs")
    labels = {item.path: item.label for item in images.items}
    assert labels == {
        "cats/a.jpg": "cats",
        "cats/deep/b.jpg": "cats",
        "dogs/c d+é.jpg": "dogs",
        "loose.jpg": None,
    }
    assert ("hidden", ".hidden") in noted(images)
    assert bucket.read == []
    contents = {item.path: images.reader.read(item) for item in images.items}
    assert contents == {path: PHOTOS[f"photos/{path}"] for path in labels}


def test_the_fingerprint_changes_with_the_content_alone(bucket: Bucket):
    def fingerprint() -> str:
        return read_source("s3://bucket/photos/").hashed().fingerprint

    before = fingerprint()
    assert fingerprint() == before
    bucket.objects["photos/cats/a.jpg"] = b"eno"  # the same size as before
    changed = fingerprint()
    assert changed != before
    bucket.objects["photos/dogs/new.jpg"] = b"new"
    assert fingerprint() not in (before, changed)


def test_an_object_that_was_changed_or_deleted_since_the_listing_is_an_error(bucket: Bucket):
    images = read_source("s3://bucket/photos")
    changed, gone = images.items[:2]
    bucket.objects[f"photos/{changed.path}"] = b"much longer"
    with pytest.raises(OSError, match="has 11 bytes, but 3 when it was listed"):
        images.reader.read(changed)
    del bucket.objects[f"photos/{gone.path}"]
    with pytest.raises(OSError, match="NoSuchKey"):
        images.reader.read(gone)


def test_an_object_that_cannot_be_read_is_rejected_and_the_others_are_kept(
    bucket: Bucket, tmp_path: Path
):
    """The run before ended with "changed while the run was reading", again and again."""
    for number in range(8):
        for label in ("cats", "dogs"):
            bucket.objects[f"photos/{label}/{number}.png"] = encoded(noise(number), "PNG")
    bucket.forbidden = {"photos/cats/3.png"}
    done = Run(tmp_path, "s3://bucket/photos", judge=JudgeSettings(min_side=4))
    assert done.rejects["cats/3.png"]["reason"] == "unreadable"
    assert done.summary["kept"] > 0


def test_a_list_of_other_labels_beside_the_folders_is_asked_about(bucket: Bucket):
    bucket.objects["photos/list.csv"] = b"path,label\ncats/a.jpg,lion\n"
    with pytest.raises(ConfigError, match=r"list\.csv may give other labels than the folders"):
        read_source("s3://bucket/photos")


def test_a_store_that_does_not_answer_is_named(bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(
        ResourceError, match=r"(?s)'s3://bucket/photos' cannot be listed: .*network"
    ):
        read_source("s3://bucket/photos")


def test_a_store_that_lists_no_checksums_is_read_and_hashed(tmp_path: Path):
    uri = f"file://{tmp_path}/photos"
    for path, data in PHOTOS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    listing = object_store.list_objects(uri, DataSettings(), 2)
    images = rules.checked(listing, DataSettings(), 2).hashed()
    found = {item.path: item.sha256 for item in images.items}
    assert found["cats/a.jpg"] == hashlib.sha256(b"one").hexdigest()
    assert images.classes == ("cats", "dogs")
    assert images.fingerprint == read_source(str(tmp_path / "photos")).hashed().fingerprint
