"""What a run would reject, repair and warn about, for `imgpipe check` and `imgpipe.check`.

It needs neither TFX nor Beam: TensorFlow decodes the images, and Pillow and numpy measure them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components import source_check
from imgpipe.components.data_gate import rules
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.image_filter.data_summary import DataSummary
from imgpipe.components.image_filter.image_table import NearGroup
from imgpipe.components.image_filter.judge.check import Row
from imgpipe.components.source_check import JudgedSource, SourceCheckPlan
from imgpipe.models.files.json_object import SCHEMA, SchemaNumber
from imgpipe.models.finding import Finding
from imgpipe.pipeline.configuration.config import Config

if TYPE_CHECKING:
    from imgpipe.components.report.page import Page
    from imgpipe.components.run_record.facts import Facts

_ADVICE = "do what stands below each reason (--html shows the images)"


class CheckedFiles(TypedDict):
    """Files by what happens to them."""

    rejected: Annotated[list[Row], "Files that a run would put into quarantine."]
    repaired: Annotated[list[Row], "Files that a run would re-encode."]
    warned: Annotated[list[Row], "Kept files with a warning."]
    reviewed: Annotated[list[Row], "Files with an override."]


class CheckSummary(DataSummary):
    """What a run would reject, repair and warn about."""

    schema: SchemaNumber
    source: Annotated[str, "The source of the images."]
    classes: Annotated[list[str], "Class names."]
    refused: Annotated[bool, "Whether a run would refuse the data (exit code 4)."]
    verdict: Annotated[str, "The decision as a sentence."]
    reasons: Annotated[list[Finding], "Why a run would refuse the data."]
    files: Annotated[CheckedFiles, "All files with a finding."]
    near_duplicates: Annotated[
        list[NearGroup] | None, "Groups of near-duplicates; null if they were not searched for."
    ]
    seconds: Annotated[float, "Duration of the checks, without the start of TensorFlow."]


@dataclasses.dataclass(frozen=True)
class ExaminedSource:
    """The result of a check.

    Attributes:
        plan: What was checked, and with which settings.
        judged: The findings.
        refused: Why a run would refuse the data; empty if it would not.
        verdict: A sentence that begins with "clean", "usable" or "refused".
    """

    plan: SourceCheckPlan
    judged: JudgedSource
    refused: Sequence[Finding]
    verdict: str

    def reasons(self) -> list[str]:
        """Return why a run would refuse the data in a few sentences."""
        return rules.summarised(self.refused)

    def summary(self) -> CheckSummary:
        """Return what `--json` writes."""
        from imgpipe.components.report.check_page import findings

        judged = self.judged
        by_fate = findings(judged)
        return {
            "schema": SCHEMA,
            "source": judged.scan.source,
            "classes": list(judged.scan.vocabulary),
            "refused": bool(self.refused),
            "verdict": self.verdict,
            "reasons": list(self.refused),
            **judged.summary,
            "files": {
                "rejected": by_fate["rejected"],
                "repaired": by_fate["repaired"],
                "warned": by_fate["warned"],
                "reviewed": [finding.row() for finding in judged.images.reviewed],
            },
            "near_duplicates": judged.images.near_groups(),
            "seconds": round(judged.seconds, 3),
        }

    def page(self) -> Page:
        """Return what the page shows, without its images."""
        from imgpipe.components.report.check_page import sections
        from imgpipe.components.report.page import Page
        from imgpipe.components.report.section import Context
        from imgpipe.components.run_record.facts import empty, page_settings
        from imgpipe.components.run_record.galleries import sampled
        from imgpipe.components.run_record.near_groups import condensed
        from imgpipe.components.run_record.verdict import RunState

        scan = self.judged.scan
        groups = self.judged.images.near_groups()
        facts: Facts = {
            **empty(page_settings("imgpipe check", scan.source, scan.vocabulary)),
            "data": self.judged.summary,
            "near": None if groups is None else condensed(groups),
            "galleries": sampled(self.judged.images.kept, scan.vocabulary),
        }
        status = "refused" if self.refused else self.verdict.split(":", 1)[0]
        state = RunState(status, self.verdict)
        return Page.of(Context(facts, None, state), sections(self.judged, self.reasons()))

    def html(self) -> str:
        """Draw the page as one HTML file, for which the images are read again."""
        from imgpipe.components.report.pictures import thumbnails

        page = self.page()
        keys = {picture.key for picture in page.pictures()}
        hashes = {row.path: row.image_hash for row in self.judged.images.rejected}
        hashes |= {row.path: row.image_hash for row in self.judged.images.kept}
        wanted = [path for path, image_hash in hashes.items() if keys & {path, image_hash}]
        images = {}
        for path, data in source_check.read_images(self.plan, self.judged, wanted):
            images[hashes[path]] = images[path] = thumbnails.kept_small(data)
        return page.html(images)


def examine(config: Config, to_stderr: bool) -> ExaminedSource:
    """Inspect the data of a configuration, and judge the numbers of images as DataGate does.

    They are compared with the data that the output folder accepted last.

    The inspection cache is used only if `judge.store` names its folder, so that a check writes
    only the files that were asked for.

    Args:
        config: The validated configuration.
        to_stderr: Whether progress is printed to standard error instead of standard output.

    Returns:
        The findings and the verdict.

    Raises:
        ConfigError: The source or a setting is wrong.
    """
    from imgpipe.components.image_filter.judge import overrides
    from imgpipe.models.machine.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles

    store = str(config.places.judge) if config.judge.store else ""
    decisions = config.places.overrides
    plan = source_check.SourceCheckPlan(
        options=SourceOptions.of(config.data, store),
        settings=config.judge,
        groups=config.split.groups,
        rule=config.split_rule,
        overrides=overrides.load(decisions) if decisions else (),
        overrides_file=decisions,
    )
    with consoles.counted(to_stderr) as display:
        with display.step("loading TensorFlow"), quick_imports():
            import tensorflow  # noqa: F401  # so that the next step's rate is that of the inspection
        with display.step("inspecting images"):
            judged = source_check.judge(plan)
        accepted_classes = _accepted_classes(config)
        demanded = rules.Requirements(config.gate, judged.scan.vocabulary, accepted_classes)
        refused = rules.counted(judged.summary, demanded)
        for reason in refused:  # whose remedies name the quarantine, which a check does not write
            ways = reason["remedies"]
            reason["remedies"] = [way.replace(rules.SEE_REASONS, _ADVICE) for way in ways]
    return ExaminedSource(plan, judged, refused, _verdict(judged, bool(refused)))


def _accepted_classes(config: Config) -> dict[str, int | None]:
    """Return the classes that the output folder accepts; see `Requirements.accepted`.

    The folder of that name may belong to other images. If nobody chose it, it therefore counts only
    if a run into it had the same source.
    """
    from imgpipe.components.data_gate import accepted, schema
    from imgpipe.pipeline.output.output_folder import OutputFolder

    file = config.places.schema
    source = config.with_absolute_paths().data.source
    chosen = "out" in config.run.model_fields_set or any(
        run.config.get("data.source") == source for run in OutputFolder(config.places.out).runs
    )
    if not chosen or not file.is_file():
        return {}
    return schema.classes(schema.read(file), accepted.classes(file))


def _verdict(judged: JudgedSource, refused: bool) -> str:
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.image_filter.findings import titles

    summary = judged.summary
    warned = len({finding.path for finding in judged.images.warned})
    counts = {"rejected": summary["rejected"], "repaired": summary["repaired"]}
    changed = [f"{count:,} {what}" for what, count in counts.items() if count]
    if warned:
        changed.append(f"{plural(warned, 'image')} with warnings")
    clauses = [", ".join(changed)] if changed else []
    clauses += titles(summary["findings"])
    images = plural(summary["in"], "image")
    if not clauses and not refused:
        return f"clean: {images}, no problems found"
    outcome = "; ".join((f"{summary['kept']:,} of {images} kept", *clauses))
    return f"refused: a run would refuse this data ({outcome})" if refused else f"usable: {outcome}"
