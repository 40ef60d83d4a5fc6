"""Tests that a table of images that is damaged or gone is named."""

from pathlib import Path

import pytest

from imgpipe.components.common import row_files
from imgpipe.components.common.image_row import ImageFinding, ImageRow
from imgpipe.components.image_filter import image_table
from imgpipe.models.errors import ResourceError


@pytest.mark.parametrize("content", [b"", b"{}", b"ARROW1\0\0" + bytes(64)])
def test_a_damaged_or_missing_table_is_named(tmp_path: Path, content: bytes):
    uri = str(tmp_path / "quarantine")
    row = ImageRow("cat/blurred.jpg", findings=(ImageFinding("blurry", "sharpness 0.10"),))
    file = Path(row_files.shard_path(uri, 0, 1))
    row_files.write(str(file), [row])
    [rejected] = image_table.read(uri, with_findings=True).rejected
    assert (rejected["path"], rejected["detail"]) == ("cat/blurred.jpg", "sharpness 0.10")
    file.write_bytes(content or file.read_bytes()[:-20])
    with pytest.raises(ResourceError, match=r"images-00000-of-00001\.arrow is damaged"):
        image_table.read(uri)
    file.unlink()
    with pytest.raises(ResourceError, match=r"has no table of images .* Run the pipeline again"):
        image_table.read(uri)
