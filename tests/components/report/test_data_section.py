"""The section on data: repairs, overrides, and warnings by kind with their images."""

from __future__ import annotations

from imgpipe.components.report import page
from imgpipe.components.report.sections import images
from tests.components.report.report_facts import BLESSED, facts, jpeg


def found(**more):
    """Return facts of a run with further facts about the data."""
    values = facts()
    values["data"] |= more
    return values


def test_repairs_and_overrides_are_named_by_kind():
    values = found(
        repaired=3,
        repaired_by={"orientation": 2, "transcoded": 1},
        overrides={
            "applied": {"accept": 2, "relabel": 4},
            "relabelled": {"train": 3, "validation": 1, "test": 0},
            "unknown": ["f" * 64],
        },
    )
    text = page.render(values, None, {}, BLESSED)
    assert "3 files were repaired (2 orientation, 1 transcoded); the original files are" in text
    assert "Overrides applied: 2 accept, 4 relabel." in text
    assert "4 labels were overridden (3 of train, 1 of validation)." in text
    assert "1 override does not match any file" in text and "<code>ffffffffffff</code>" in text


def test_a_warning_shows_its_first_images():
    hashes = [f"{n:064x}" for n in range(9)]
    warning = {
        "reason": "blurry",
        "count": 40,
        "details": {f"sharpness 0.{n}, under 0.29": 1 for n in range(9)},
        "paths": [f"cat/{n}.jpg" for n in range(9)],
        "image_hashes": hashes,
    }
    values = found(warnings=[warning])
    assert images.shown_hashes(values["data"]) == set(hashes[: images.IMAGES])
    text = page.render(values, None, dict.fromkeys(hashes, jpeg()), BLESSED)
    assert text.count('alt="blurry: cat/') == images.IMAGES
    assert "40 blurry" in text and "sharpness 0.8" in text
