"""Made-up tables of images."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from imgpipe.components.common import images
from imgpipe.components.common.image_file.pixels import MEASUREMENTS
from imgpipe.components.common.image_row import ImageFinding, described
from imgpipe.components.image_filter import quarantine


def row(
    path: str,
    label: str = "",
    label_index: int = -1,
    split: str = "",
    image_hash: str = "",
    findings: Sequence[ImageFinding] = (),
    **columns: Any,
) -> SimpleNamespace:
    """Return a row of a table; an image without a family is one by itself."""
    named = {"label_index": label_index, "split": split, "image_hash": image_hash}
    is_rejected = bool(findings) and findings[0].severity == "reject"
    reason = findings[0].reason if is_rejected else ""
    made = {"family": image_hash, "reason": reason, "stored": "", "findings": findings}
    return SimpleNamespace(path=path, label=label, **named, **made | columns)


def table(rows: Iterable[SimpleNamespace]) -> pd.DataFrame:
    """Return the table of these rows, whose measurements are 0 where they are not given."""
    listed = [*rows]
    defaults = {name: kind() for name, kind in images.COLUMNS.items()}
    defaults |= dict.fromkeys(MEASUREMENTS, 0.0)
    return images.table(
        {
            name: [getattr(each, name, default) for each in listed]
            for name, default in defaults.items()
        }
    )


def write(uri: object, rows: Iterable[SimpleNamespace]) -> None:
    """Write a table, and what was found in its images, as ImageFilter does."""
    listed = [*rows]
    images.write(images.shard_path(str(uri), 0, 1), table(listed))
    findings = [described(each, finding) for each in listed for finding in each.findings]
    lines = (json.dumps(finding) + "\n" for finding in findings)
    Path(str(uri), quarantine.FINDINGS).write_text("".join(lines))


def kept(rows: Iterable[SimpleNamespace]) -> pd.DataFrame:
    """Return the table of these rows as `images.kept` reads it."""
    every = table(rows)
    return every.set_index(every["image_hash"].rename(None)).sort_index()
