"""What a run would reject, repair and warn about, for `imgpipe check` and `imgpipe.check`.

ImageFilter's engine runs in this process, and needs neither TFX nor Beam: TensorFlow decodes the
images, and Pillow and numpy measure them. A row of each image is in memory, without its bytes. The
few images that are shown are read again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgpipe.components.common import images as tables
from imgpipe.components.common.image_file.pixels import ALL_BYTES
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.data_gate import rules
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import Images
from imgpipe.components.image_filter import engine
from imgpipe.components.image_filter.engine import JudgedImages
from imgpipe.components.image_filter.findings import ImageFindings, reviewed, with_severity
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.examine import examine
from imgpipe.components.image_filter.summary import DataSummary, check_conservation, summarise
from imgpipe.components.run_record import result as results
from imgpipe.components.run_record.result import Result
from imgpipe.components.run_record.run_folder import UNTIMED
from imgpipe.components.run_record.shown_images import sampled
from imgpipe.models.finding import Finding
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import load_tensorflow
from imgpipe.models.settings.given import Facts, Given
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.definition.source import listed

if TYPE_CHECKING:
    from imgpipe.pipeline.results import Check

#: Bytes of the perceptual hashes of all images, above which they wait in a temporary file.
_HASHES_IN_MEMORY = 16 << 20
_ADVICE = "do what stands below each reason (--html shows the images)"


@dataclass(frozen=True)
class CheckedSource:
    """The images of a source, and what was found in them.

    Attributes:
        listed: The images as they were listed; their reader reads them again.
        judgement: All images, and what was found in them.
        data: Counts of the images, and findings.
        seconds: Duration of the checks.
        reasons: Why a run would refuse the data; empty if it would not.
    """

    listed: Images
    judgement: JudgedImages
    data: DataSummary
    seconds: float
    reasons: Sequence[Finding] = ()


def check(config: Settings) -> Check:
    """Return the result of a check, with its page.

    Raises:
        ConfigError: The source, a class or a setting is wrong.
    """
    from imgpipe.pipeline.results import Check

    store = _cache(config)
    images = listed(config, store)  # before the imports, which take seconds
    if not store:  # otherwise it is loaded for the first file that the cache lacks
        load_tensorflow()
    with progress.step("inspecting images"):
        checked = judge(config, images, store)
    checked = dataclasses.replace(checked, reasons=_reasons(config, checked))
    result = _result(checked)
    return Check(result, functools.partial(_page, checked, result))


def _cache(config: Settings) -> str:
    """Return the folder of the inspection cache; "" for none.

    A check uses that of an output folder that is named and exists; it makes no folder.
    """
    cache = config.places.judge
    is_used = config.judge.store or (os.access(cache, os.W_OK) and _is_chosen(config))
    return str(cache) if is_used else ""


def judge(config: Settings, listing: Images, store: str) -> CheckedSource:
    """Check all images of a source, without asking whether a run would refuse the data.

    Args:
        config: The settings.
        listing: The images as they were listed.
        store: Folder of the inspection cache; "" for none.

    Raises:
        ConfigError: A decision about an image is refused.
        RuntimeError: Kept and rejected files do not add up to all files, which is a defect.
    """
    began = time.monotonic()
    decisions = overrides.decisions(config.places.overrides, listing.classes)
    given = Given(config, Facts(vocabulary=listing.classes, decisions=decisions))
    rule = SplitRule.of(config, listing.given_splits)
    limit = config.judge.pixel_limit
    records = inspect(listing.reader, listing.items, limit, store, rule, listing.classes)
    progress.total(len(listing.items), "images")
    findings = ImageFindings()
    with tempfile.SpooledTemporaryFile(_HASHES_IN_MEMORY) as hashes:

        def examined() -> Iterator[ImageRow]:
            for number, row in enumerate(records):
                override = given.facts.decision_about(row.image_hash)
                findings.add(number, *examine(row, config.judge, override))
                hashes.write(row.perceptual_hash or bytes(ALL_BYTES))
                progress.advance(1, "images")
                yield row

        with contextlib.closing(records):
            images = tables.frame(examined())
        hashes.seek(0)
        one_at_a_time = iter(lambda: hashes.read(ALL_BYTES), b"")
        judgement = engine.judge(images, findings, one_at_a_time, given, rule)
    data = summarise(judgement, given, listing.findings)
    check_conservation(data, len(listing.items))
    return CheckedSource(listing, judgement, data, time.monotonic() - began)


def _reasons(config: Settings, checked: CheckedSource) -> list[Finding]:
    """Return why a run would refuse the data, and add what changed to the findings."""
    from imgpipe.components.data_gate import accepted, changes
    from imgpipe.components.data_gate import schema as schemas

    findings = checked.data["findings"]
    accepted_classes: Mapping[str, int | None] = {}
    schema = _accepted_schema(config)
    if schema is not None:
        accepted_classes = schemas.classes(schemas.read(schema), accepted.classes(schema))
        images = checked.judgement.images
        kept = images[images["reason"] == ""]
        findings += changes.since_accepted(accepted.images(schema), kept)
    demanded = rules.Requirements(config.gate, checked.listed.classes, accepted_classes)
    reasons = rules.counted(checked.data, demanded)
    told = {way for finding in findings for way in finding["remedies"]}
    for reason in reasons:  # a check writes no quarantine, and has said what to do above
        ways = [way for way in reason["remedies"] if way not in told]
        reason["remedies"] = [way.replace(rules.SEE_REASONS, _ADVICE) for way in ways]
    return reasons


def _accepted_schema(config: Settings) -> Path | None:
    """Return the path of the schema that the output folder has accepted; None if it has none."""
    file = config.places.schema
    return file if file.is_file() and _is_chosen(config) else None


def _is_chosen(config: Settings) -> bool:
    """Return whether the output folder is named; the usual one may be of other images."""
    return "out" in config.run.model_fields_set


def _result(checked: CheckedSource) -> Result:
    """Return what `--json` writes and the page shows."""
    judgement, listing = checked.judgement, checked.listed
    kept = judgement.images[judgement.images["reason"] == ""]
    verdict = _verdict(checked)
    return results.new(
        status=verdict.partition(":")[0],
        verdict=verdict,
        name="imgpipe check",
        source=listing.source,
        classes=list(listing.classes),
        data=checked.data,
        data_gate={
            "blessed": not checked.reasons,
            "reasons": list(checked.reasons),
            "changes": [],  # which are among the findings about the images
            "accepted_schema": "",
            "warnings": [],
        },
        rejected=with_severity(judgement.findings, "reject"),
        files={
            "repaired": with_severity(judgement.findings, "repair"),
            "warned": with_severity(judgement.findings, "warn"),
            "reviewed": reviewed(judgement.images, judgement.findings),
        },
        galleries=sampled(kept, listing.classes),
        timings={**UNTIMED, "total_s": round(checked.seconds, 3)},
    )


def _verdict(checked: CheckedSource) -> str:
    """Return a sentence that begins with "clean", "usable" or "refused"."""
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.image_filter.findings import titles

    data = checked.data
    warned = len({each["path"] for each in with_severity(checked.judgement.findings, "warn")})
    counts = {"rejected": data["rejected"], "repaired": data["repaired"]}
    changed = [f"{count:,} {what}" for what, count in counts.items() if count]
    if warned:
        changed.append(f"{plural(warned, 'image')} with warnings")
    clauses = [", ".join(changed)] if changed else []
    clauses += titles(data["findings"])
    images = plural(data["in"], "image")
    if not clauses and not checked.reasons:
        return f"clean: {images}, no problems found"
    if data["left_out"]:
        images = plural(data["found"], "file")
    outcome = "; ".join((f"{data['kept']:,} of {images} kept", *clauses))
    if checked.reasons:
        return f"refused: a run would refuse this data ({outcome})"
    return f"usable: {outcome}"


def _page(checked: CheckedSource, result: Result) -> str:
    """Draw the page as one HTML file, for which the images are read again."""
    from imgpipe.components.report.other_pages import OF_CHECK
    from imgpipe.components.report.page import Page
    from imgpipe.components.report.pictures import thumbnails

    page = Page.of(result, OF_CHECK)
    keys = {picture.key for picture in page.pictures()}
    images = checked.judgement.images
    hashes = dict(zip(images["path"], images["image_hash"], strict=True))
    shown = {}
    for item in checked.listed.items:
        if not keys & {item.path, hashes[item.path]}:
            continue
        try:
            data = checked.listed.reader.read(item)
        except OSError:  # what is gone now is not shown
            continue
        shown[item.path] = shown[hashes[item.path]] = thumbnails.kept(data)
    return page.html(shown)
