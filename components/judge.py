"""The data judge on its own: any source judged whole, without Beam, TFX or training.

Threads take the shards; every verdict comes from the functions that ImageFilter asks, so it is the
same. What is kept of a picture is small: its bytes go as soon as it is judged, and the few that
are to be shown are read again.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components import checks
from components.checks import deciding, duplicates, quarantine
from components.checks.base import Record, Settings, Verdict
from components.checks.deciding import Account
from components.checks.near import groups, matching
from components.checks.overrides import Override, resolve
from components.sources import Item, Scan, SourceOptions, open_source
from components.sources.reading import read_files, to_example
from components.sources.splits import SplitRule
from models import progress

_SHARD = 256  # files a tf.data pipeline: enough to make nothing of its start (~50 ms)
_THREADS = 8  # more only hold more pictures in memory: each has tf.data's own threads below it


@dataclass(frozen=True)
class Plan:
    """What decides."""

    source: str
    settings: Settings = field(default_factory=Settings)
    options: SourceOptions = field(default_factory=SourceOptions)
    rule: SplitRule = field(default_factory=SplitRule)
    overrides: tuple[Override, ...] = ()
    store: str = ""  # folder of what is known by content from earlier runs, "" for none


@dataclass(frozen=True)
class Judged:
    """Everything found; files are sorted by path."""

    scan: Scan
    summary: Mapping[str, Any]  # as `quarantine.summarise` gives it
    rejects: tuple[quarantine.Reject, ...]
    repairs: tuple[quarantine.Finding, ...]
    warnings: tuple[quarantine.Finding, ...]
    reviews: tuple[quarantine.Finding, ...]
    near: tuple[Mapping[str, Any], ...] | None  # groups of near-duplicates; None: not looked for
    seconds: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is left of a picture when its bytes are gone."""

    record: Record
    label: str  # as the source has it
    judgement: checks.Judgement  # without the set's sizes
    done: tuple[Verdict, ...] = ()  # repairs
    failed: tuple[Verdict, ...] = ()
    row: bytes = b""  # for the search for near-duplicates


def judge(plan: Plan) -> Judged:
    """Judge everything that a source holds.

    Raises ConfigError when the source or the settings are not as they should be, and RuntimeError
    when files in are not files kept plus rejected: a defect, never data.
    """
    checks.validate(plan.settings)
    began = time.monotonic()
    scan = open_source(plan.source, plan.options).listing()
    settings = dataclasses.replace(
        plan.settings, overrides=resolve(plan.overrides, scan.vocabulary)
    )
    plan = dataclasses.replace(
        plan, settings=settings, rule=dataclasses.replace(plan.rule, given=scan.given_splits)
    )
    seen = _look_at_all(plan, scan)
    candidates = [one for one in seen if one.judgement.reject is None]
    copies = _by_content(candidates)
    drops = {drop.path: drop for group in copies.values() for drop in duplicates.resolve(group)}
    rulings, lines = _near(candidates, copies, deciding.near_settings(settings))
    settings = deciding.with_sizes(
        settings, collections.Counter(one.record.pixels for one in candidates)
    )
    account = Account()
    for one in seen:
        _settle(one, drops.get(one.record.path), rulings.get(one.record.path), settings, account)
    notes = [dataclasses.asdict(note) for note in scan.notes]
    totals = deciding.totals([account], scan.vocabulary, notes, settings)
    summary = quarantine.summarise(**totals)
    quarantine.check_conservation(summary, len(scan.items))
    return Judged(
        scan=scan,
        summary=summary,
        rejects=tuple(sorted(account.rejects, key=lambda row: (row.path, row.reason))),
        repairs=_sorted(account.repairs),
        warnings=_sorted(account.warnings),
        reviews=_sorted(account.reviews),
        near=lines,
        seconds=time.monotonic() - began,
    )


def _sorted(findings: Iterable[quarantine.Finding]) -> tuple[quarantine.Finding, ...]:
    return tuple(sorted(findings, key=lambda found: (found.path, found.reason)))


def _look_at_all(plan: Plan, scan: Scan) -> list[_Seen]:
    """Every file of the source, shard by shard in threads, in the order of the listing."""
    import tensorflow  # noqa: F401  # here, once: threads that import it together hang

    threads = min(len(os.sched_getaffinity(0)), _THREADS)  # cores that are ours, not all there are
    size = max(1, min(_SHARD, -(-len(scan.items) // threads)))
    shards = [scan.items[start : start + size] for start in range(0, len(scan.items), size)]
    progress.total(len(scan.items), "images")
    pool = concurrent.futures.ThreadPoolExecutor(threads, "judge")
    try:
        waiting = [pool.submit(_look_at, plan, shard, scan.vocabulary) for shard in shards]
        return [one for shard in waiting for one in shard.result()]
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at(plan: Plan, items: Sequence[Item], vocabulary: Sequence[str]) -> list[_Seen]:
    source = open_source(plan.source, plan.options)
    seen = []
    for file in read_files(source, items, plan.settings.pixel_limit, plan.store):
        item = file.item
        split = plan.rule.assign(file.image_hash or item.path, item.split, item.group)
        # By way of the Example: figures of 32 bits, as ImageFilter gets them.
        found = deciding.to_record(to_example(file, split, vocabulary))
        seen.append(_first_look(found, plan.settings))
        progress.advance(1, "images")
    return seen


def _first_look(found: Record, settings: Settings) -> _Seen:
    """Judge one file by itself; its bytes are not kept."""
    record = checks.reviewed(found, settings)
    judgement = deciding.judge(record, settings)
    bare = dataclasses.replace(record, data=b"", measured=None)
    if judgement.reject is not None:
        return _Seen(bare, found.label, judgement)
    row = b""
    if deciding.near_settings(settings).radius > 0:
        row = deciding.row(record, judgement)
    if not judgement.repairs:
        return _Seen(bare, found.label, judgement, row=row)
    _, done, failed = checks.mended(record, judgement)
    done = tuple(dataclasses.replace(repair, data=None) for repair in done)
    judgement = dataclasses.replace(judgement, repairs=())
    return _Seen(bare, found.label, judgement, done, failed, row)


def _by_content(candidates: Iterable[_Seen]) -> dict[str, list[duplicates.Copy]]:
    copies: dict[str, list[duplicates.Copy]] = collections.defaultdict(list)
    for one in candidates:
        record = one.record
        copy = duplicates.Copy(record.path, record.split, record.label, record.group)
        copies[record.image_hash].append(copy)
    return copies


def _near(
    candidates: Iterable[_Seen],
    copies: Mapping[str, list[duplicates.Copy]],
    settings: matching.NearSettings,
) -> tuple[dict[str, groups.Ruling], tuple[Mapping[str, Any], ...] | None]:
    """Ruling by path, and the groups as they are listed."""
    if settings.radius <= 0:
        return {}, None
    found = dict(matching.find((one.row for one in candidates), settings.radius))
    members: dict[int, list[tuple[int, groups.Member]]] = collections.defaultdict(list)
    for image_hash in found:
        for number, member in matching.members((image_hash, copies[image_hash]), found):
            members[number].append(member)
    rulings, lines = {}, []
    for group in members.items():
        for ruled, line in matching.resolve_group(group, settings):
            rulings.update({ruling.path: ruling for ruling in ruled})
            lines.append(line)
    return rulings, tuple(sorted(lines, key=lambda line: str(line["members"][0]["path"])))


def _settle(
    one: _Seen,
    drop: duplicates.Drop | None,
    near: groups.Ruling | None,
    settings: Settings,
    account: Account,
) -> None:
    """What becomes of one file, now that the whole set is known."""
    account.read += 1
    judgement = deciding.finished(one.judgement, one.record, settings)
    reject = deciding.reject_of(one.record, judgement, drop, near)
    account.review(one.label, one.record, reject, settings)
    if reject is not None:
        account.rejects.append(reject)
        return
    account.mend(one.record, one.done, one.failed)
    account.keep(one.record, judgement, near)


def pictures(plan: Plan, judged: Judged, paths: Iterable[str]) -> dict[str, bytes]:
    """The bytes of some files by path, read again; those that cannot be read are left out."""
    wanted = set(paths)
    source = open_source(plan.source, plan.options)
    found = {}
    for item in judged.scan.items:
        if item.path in wanted:
            try:
                found[item.path] = source.read(item)
            except OSError:
                continue
    return found
