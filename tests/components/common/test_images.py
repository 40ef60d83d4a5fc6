"""Tests that a table of images that is damaged or gone is named."""

from pathlib import Path

import pytest

from imgpipe.components.common import images
from imgpipe.models.errors import ResourceError
from tests import image_tables


@pytest.mark.parametrize("content", [b"", b"{}", b"ARROW1\0\0" + bytes(64)])
def test_a_damaged_or_missing_table_is_named(tmp_path: Path, content: bytes):
    uri = str(tmp_path / "quarantine")
    file = Path(images.shard_path(uri, 0, 1))
    image_tables.write(uri, [image_tables.row("cat/blurred.jpg")])
    assert images.read(uri)["path"].tolist() == ["cat/blurred.jpg"]
    file.write_bytes(content or file.read_bytes()[:-20])
    with pytest.raises(ResourceError, match=r"images-00000-of-00001\.arrow is damaged"):
        images.read(uri)
    file.unlink()
    with pytest.raises(ResourceError, match=r"has no table of images .* Run the pipeline again"):
        images.read(uri)
