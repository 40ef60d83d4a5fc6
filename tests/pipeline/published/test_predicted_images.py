"""The table of `imgpipe predict` shows names of files of any bytes in one line each."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from imgpipe.pipeline.published.predicted_images import ImageAnswer, table
from imgpipe.serving.client.errors import InvalidArgument
from imgpipe.serving.client.images import name_of


def test_names_of_any_bytes_are_escaped_in_the_table_and_in_the_message_of_a_refused_file():
    path = Path(os.fsdecode(b"a\n\x1b[31m\x07\xe9.jpg"))
    refused = InvalidArgument(f"{name_of(path, 0)}: the file is empty.")
    header, row = csv.reader(io.StringIO(table([ImageAnswer.of(str(path), refused)])))
    assert header[0] == "file"
    assert row[0] == r"a\n\x1b[31m\x07\udce9.jpg"
    assert row[5] == r"a\n\x1b[31m\x07\udce9.jpg: the file is empty."
