"""Examines a request log: reads it, measures its images and compares them. Imports TFDV."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.storage import manifest
from imgpipe.components.data_gate.drift import FeatureDistance
from imgpipe.components.example_gen.notes import gathered
from imgpipe.components.example_gen.sources.request_log import KIND, RequestLogSource
from imgpipe.models.finding import Finding, make_finding
from imgpipe.pipeline.request_drift import comparison, requests
from imgpipe.pipeline.request_drift.requests import measure

#: Version of the format `DriftSummary`.
SCHEMA: Final = 3


class DriftSummary(TypedDict):
    """The comparison of requests with the training data."""

    schema: Annotated[int, f"Version of this format, {SCHEMA}."]
    drift: Annotated[
        bool | None, "Whether there is drift; null if there were too few requests to compare."
    ]
    verdict: Annotated[str, "The decision as a sentence."]
    source: Annotated[str, "The request log, as a source of images."]
    version: Annotated[int, "The version whose requests were compared."]
    answers: Annotated[int, "Number of its answers."]
    images: Annotated[int, "Number of its answers whose image the log holds."]
    different_images: Annotated[int, "Number of different images among these."]
    measured: Annotated[int, "Number of different images that were measured."]
    first: Annotated[str, "Time of the first answer."]
    last: Annotated[str, "Time of the last answer."]
    labels: Annotated[dict[str, int], "Number of answers by label."]
    comparisons: Annotated[list[FeatureDistance], "The comparisons of all properties."]
    findings: Annotated[list[Finding], "What was not compared, and why."]


def examine(source: RequestLogSource, base: Path) -> DriftSummary:
    """Compare the requests in a log with the training data of the version that answered.

    Args:
        source: The log.
        base: Folder of the versions of the model, of which the intact ones count.

    Raises:
        ConfigError: There is no log, or it is the log of another model.
        ResourceError: The log is empty, the versions that answered were removed, or the version has
            no statistics of its training data.
    """
    log = f"{KIND}:{source.locator}"
    versions = {version.number: version for version in manifest.versions(base)}
    vocabularies = {number: {*version.vocabulary} for number, version in versions.items()}
    number, answers, notes = requests.read(source, vocabularies)
    reference = comparison.load(versions[number])
    logged = [answer.item for answer in answers if answer.item is not None]
    items = list({item.sha256: item for item in logged}.values())
    measured = measure(source, items, versions[number].path, reference.features)
    comparisons, missing = comparison.compare(answers, measured, reference)
    drift, verdict = _verdict(number, len(answers), comparisons, missing)
    findings = [*gathered(notes), *missing]
    if measured.undecodable:
        looked_at = len(measured.rows) + measured.undecodable
        number_of_all = f"{measured.undecodable:,} of the {plural(looked_at, 'image')} of the log"
        sentence = f"{number_of_all} that were looked at cannot be decoded"
        way = f"to see them, run: imgpipe check {shlex.quote(log)}"
        findings.append(make_finding("undecodable", sentence, [way], count=measured.undecodable))
    return {
        "schema": SCHEMA,
        "drift": drift,
        "verdict": verdict,
        "source": log,
        "version": number,
        "answers": len(answers),
        "images": len(logged),
        "different_images": len(items),
        "measured": len(measured.rows),
        "first": _time(min(answer.time for answer in answers)),
        "last": _time(max(answer.time for answer in answers)),
        "labels": dict(Counter(answer.label for answer in answers).most_common()),
        "comparisons": comparisons,
        "findings": findings,
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _verdict(
    number: int,
    answers: int,
    comparisons: Sequence[FeatureDistance],
    missing: Sequence[Finding],
) -> tuple[bool | None, str]:
    """Return whether there is drift, None if nothing could be judged, and a sentence about it."""
    over = [
        f"{row['feature'].replace('_', ' ')} ({row['was']} → {row['now']})"
        for row in comparisons
        if row["over"]
    ]
    if over:
        return True, (
            f"drift: version {number} receives requests unlike its training data: {', '.join(over)}"
        )
    if not comparisons:
        return None, f"not compared: {missing[0]['sentence']}"
    on_images = any(row["reference"] != comparison.VALIDATION for row in comparisons)
    where = "" if on_images else " in the answers"
    return False, (
        f"no drift{where}: {answers:,} answers of version {number}, none of "
        f"{len(comparisons)} comparisons over its limit"
    )
