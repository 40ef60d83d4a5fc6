"""What a run would reject, repair and warn about, for `imgpipe check` and `imgpipe.check`.

ImageFilter's engine runs in this process, and needs neither TFX nor Beam: TensorFlow decodes the
images, and Pillow and numpy measure them. A row of each image is in memory, without its bytes. The
few images that are shown are read again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.common.image_file.pixels import ALL_BYTES
from imgpipe.components.data_gate import rules
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import Scan, Source, open_source
from imgpipe.components.image_filter import comparison
from imgpipe.components.image_filter.data_summary import DataSummary, check_conservation, summarise
from imgpipe.components.image_filter.image_table import ImageTable
from imgpipe.components.run_record import result as results
from imgpipe.components.run_record.result import Result
from imgpipe.components.run_record.run_folder import UNTIMED
from imgpipe.components.run_record.shown_images import sampled
from imgpipe.models.finding import Finding
from imgpipe.models.machine import progress
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.definition.plan import filter_plan
from imgpipe.pipeline.definition.source import opened_with_classes

#: Bytes of the perceptual hashes of all images, above which they wait in a temporary file.
_HASHES_IN_MEMORY = 16 << 20
_ADVICE = "do what stands below each reason (--html shows the images)"


@dataclass(frozen=True)
class CheckedSource:
    """The result of a check.

    Attributes:
        source: The source, from which images are read again.
        scan: Its listing.
        images: All images, and what was found in them.
        data: Counts of the images, and findings.
        seconds: Duration of the checks.
        refused: Why a run would refuse the data; empty if it would not.
    """

    source: Source
    scan: Scan
    images: ImageTable
    data: DataSummary
    seconds: float
    refused: Sequence[Finding] = ()

    @property
    def verdict(self) -> str:
        """A sentence that begins with "clean", "usable" or "refused"."""
        from imgpipe.components.common.formatting import plural
        from imgpipe.components.image_filter.findings import titles

        warned = sum(bool(row.with_severity("warn")) for row in self.images.rows)
        counts = {"rejected": self.data["rejected"], "repaired": self.data["repaired"]}
        changed = [f"{count:,} {what}" for what, count in counts.items() if count]
        if warned:
            changed.append(f"{plural(warned, 'image')} with warnings")
        clauses = [", ".join(changed)] if changed else []
        clauses += titles(self.data["findings"])
        images = plural(self.data["in"], "image")
        if self.data["left_out"]:
            images = plural(self.data["found"], "file")
        if not clauses and not self.refused:
            return f"clean: {plural(self.data['in'], 'image')}, no problems found"
        outcome = "; ".join((f"{self.data['kept']:,} of {images} kept", *clauses))
        if self.refused:
            return f"refused: a run would refuse this data ({outcome})"
        return f"usable: {outcome}"

    @functools.cached_property
    def result(self) -> Result:
        """What `--json` writes and the page shows."""
        return results.new(
            status="refused" if self.refused else self.verdict.split(":", 1)[0],
            verdict=self.verdict,
            name="imgpipe check",
            source=self.scan.source,
            classes=list(self.scan.vocabulary),
            data=self.data,
            data_gate={
                "blessed": not self.refused,
                "reasons": list(self.refused),
                "changes": [],  # which are among the findings about the images
                "accepted_schema": "",
                "warnings": [],
            },
            rejected=self.images.rejected,
            files={
                "repaired": self.images.repaired,
                "warned": self.images.warned,
                "reviewed": self.images.reviewed,
                "near_duplicates": self.images.near_groups(),
            },
            galleries=sampled(self.images.kept, self.scan.vocabulary),
            timings={**UNTIMED, "total_s": round(self.seconds, 3)},
        )

    def html(self) -> str:
        """Draw the page as one HTML file, for which the images are read again."""
        from imgpipe.components.report.other_pages import OF_CHECK
        from imgpipe.components.report.page import Page
        from imgpipe.components.report.pictures import thumbnails

        page = Page.of(self.result, OF_CHECK)
        keys = {picture.key for picture in page.pictures()}
        hashes = {row.path: row.image_hash for row in self.images.rows}
        shown = {}
        for item in self.scan.items:
            if not keys & {item.path, hashes[item.path]}:
                continue
            try:
                data = self.source.read(item)
            except OSError:  # what is gone now is not shown
                continue
            shown[item.path] = shown[hashes[item.path]] = thumbnails.kept(data)
        return page.html(shown)


def _store(config: Config) -> str:
    """Return the folder of the inspection cache if `judge.store` names it, otherwise "".

    A check writes only the files that were asked for.
    """
    return str(config.places.judge) if config.judge.store else ""


def judge(config: Config) -> CheckedSource:
    """Check all images of a source, without asking whether a run would refuse the data.

    A source or a decision about an image that is refused raises ConfigError. A RuntimeError is a
    defect: kept and rejected files do not add up to all files.
    """
    began = time.monotonic()
    options = SourceOptions.of(config.data, _store(config))
    source = open_source(options.source, options)
    scan = source.listing()
    plan = filter_plan(config, scan.vocabulary)
    rule = dataclasses.replace(config.split_rule, given=scan.given_splits)
    limit = plan.settings.pixel_limit
    records = inspect(source, scan.items, limit, options.store, rule, scan.vocabulary)
    progress.total(len(scan.items), "images")
    rows = []
    with tempfile.SpooledTemporaryFile(_HASHES_IN_MEMORY) as hashes:
        with contextlib.closing(records):
            for row in comparison.examine(records, plan):
                progress.advance(1, "images")
                hashes.write(row.perceptual_hash or bytes(ALL_BYTES))
                rows.append(dataclasses.replace(row, image_bytes=b"", perceptual_hash=b""))
        hashes.seek(0)
        images = comparison.compare(rows, iter(lambda: hashes.read(ALL_BYTES), b""), plan, rule)
    summary = summarise(images, plan, scan.notes)
    check_conservation(summary, len(scan.items))
    return CheckedSource(source, scan, images, summary, time.monotonic() - began)


def examine(config: Config, to_stderr: bool) -> CheckedSource:
    """Inspect the data of a configuration, and judge the numbers of images as DataGate does.

    They are compared with the data that the output folder accepted last.

    Args:
        config: The validated configuration.
        to_stderr: Whether progress is printed to standard error instead of standard output.

    Raises:
        ConfigError: The source, a class or a setting is wrong.
    """
    from imgpipe.components.data_gate import accepted, changes
    from imgpipe.components.data_gate import schema as schemas
    from imgpipe.pipeline.command_line import console as consoles

    opened_with_classes(config, _store(config))  # before the imports, which take seconds
    with consoles.computing(to_stderr) as display:
        with display.step("inspecting images"):
            checked = judge(config)
        schema = _accepted_schema(config)
        accepted_classes: Mapping[str, int | None] = {}
        if schema is not None:
            accepted_classes = schemas.classes(schemas.read(schema), accepted.classes(schema))
            kept = [*checked.images.kept]
            checked.data["findings"] += changes.since_accepted(schema, kept)
        demanded = rules.Requirements(config.gate, checked.scan.vocabulary, accepted_classes)
        refused = rules.counted(checked.data, demanded)
        told = {way for finding in checked.data["findings"] for way in finding["remedies"]}
        for reason in refused:  # a check writes no quarantine, and has said what to do above
            ways = [way for way in reason["remedies"] if way not in told]
            reason["remedies"] = [way.replace(rules.SEE_REASONS, _ADVICE) for way in ways]
    return dataclasses.replace(checked, refused=refused)


def _accepted_schema(config: Config) -> Path | None:
    """Return the path of the schema that the output folder has accepted; None if it has none.

    The folder of that name may belong to other images. If nobody chose it, it therefore counts only
    if a run into it had the same source.
    """
    from imgpipe.pipeline.output.output_folder import OutputFolder

    file = config.places.schema
    source = config.with_absolute_paths().data.source
    chosen = "out" in config.run.model_fields_set or any(
        run.setting("data", "source") == source for run in OutputFolder(config.places.out).runs
    )
    return file if chosen and file.is_file() else None
