"""The page of ``imgpipe evaluate``: the sections of a run's report that are about predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report import page
from imgpipe.components.report.section import Context, RunState, Section
from imgpipe.components.report.sections import accuracy
from imgpipe.components.report.text import count, share
from imgpipe.models import feature_names as names


def _verdict(context: Context) -> Mapping[str, Any]:
    found = context.facts["evaluation"]
    keys = [
        ("images evaluated", count(found["count"])),
        ("accuracy", share(found["accuracy"])),
        ("expected calibration error", share(found["ece"])),
        ("… by chance on this number of images", share(found["ece_by_chance"])),
        ("classes", count(len(found["classes"]))),
    ]
    sentence = found["verdict"]
    return {
        "sentence": sentence[:1].upper() + sentence[1:],
        "warnings": found["warnings"],
        "source": found["source"],
        "model": found["model"],
        "keys": keys,
    }


_SECTIONS = (
    Section("verdict", "Verdict", _verdict, template="evaluation_verdict"),
    accuracy.FIGURES,
    accuracy.CONFUSION,
    accuracy.PER_CLASS,
    accuracy.SLICES,
    accuracy.MISTAKES,
)


def render(found: Mapping[str, Any], images: Mapping[str, bytes]) -> str:
    """Draw the page.

    Args:
        found: What ``--json`` writes.
        images: Encoded files of the mistakes, by image hash; any bytes are safe.

    Returns:
        The HTML text, which can be encoded as UTF-8.
    """
    index = {name: number for number, name in enumerate(found["classes"])}
    cells = [
        (index[cell["label"]], index[cell["predicted"]], cell["count"])
        for cell in found["confusion"]
    ]
    # The sections expect the splits of a run, so the evaluated images take the name `test`.
    facts = {
        "settings": {
            "name": "imgpipe evaluate",
            "source": found["source"],
            "vocabulary": found["classes"],
        },
        "evaluation": found,
        "metrics": {names.TEST: found},
        "confusion": {names.TEST: cells},
        "slices": found["slices"],
        "mistakes": {names.TEST: found["mistakes"]},
    }
    status = "evaluated" if found["passed"] else "below_threshold"
    return page.render(facts, {}, images, RunState(status, found["verdict"]), _SECTIONS)
