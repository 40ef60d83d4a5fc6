"""The data judge on its own: any source judged whole, without Beam, TFX or training.

Threads take the shards; every verdict comes from the functions that ImageFilter asks, so it is the
same. What is kept of a picture lies in a temporary folder: its bytes go as soon as it is judged,
its first judgement waits there until the whole set is known, and the few that are to be shown are
read again. In memory are the list of the source, 32 bytes a picture, and what was found.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import pickle
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgpipe.components.example_gen.sources import Item, Scan, SourceOptions, open_source
from imgpipe.components.example_gen.splits import SplitRule
from imgpipe.components.image_file.inspection import read_files, to_example
from imgpipe.components.image_filter import checks, decisions, identical_files, quarantine
from imgpipe.components.image_filter.check import Record, Settings, Verdict
from imgpipe.components.image_filter.decisions import Account
from imgpipe.components.image_filter.near_duplicates import groups, matching
from imgpipe.components.image_filter.near_duplicates.matching import Contents
from imgpipe.components.image_filter.overrides import Override, resolve
from imgpipe.models import progress

_SHARD = 1024  # files a tf.data pipeline: enough to make nothing of its start (~50 ms)
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


@dataclass(frozen=True)
class _Part:
    """One shard that was looked at; the rest of it lies in files."""

    place: Path
    contents: Contents  # of the pictures that no check rejected
    sizes: collections.Counter[int]  # width × height of those → how many

    def seen(self) -> list[_Seen]:
        """Its pictures, in the order of the listing."""
        with self.place.open("rb") as file:
            found: list[_Seen] = pickle.load(file)  # written by this process
        return found


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
    with tempfile.TemporaryDirectory(prefix="imgpipe-check-") as folder:
        rows = matching.Columns(Path(folder) / "rows")
        parts = _look_at_all(plan, scan, Path(folder), rows)
        account, lines = _settle_all(parts, rows, settings)
    notes = [dataclasses.asdict(note) for note in scan.notes]
    totals = decisions.totals([account], scan.vocabulary, notes, settings)
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


def _look_at_all(plan: Plan, scan: Scan, folder: Path, rows: matching.Columns) -> list[_Part]:
    """Every file of the source, shard by shard in threads, in the order of the listing."""
    import tensorflow  # noqa: F401  # here, once: threads that import it together hang

    threads = min(len(os.sched_getaffinity(0)), _THREADS)  # cores that are ours, not all there are
    size = max(1, min(_SHARD, -(-len(scan.items) // threads)))
    starts = range(0, len(scan.items), size)
    progress.total(len(scan.items), "images")
    lock = threading.Lock()

    def look_at(start: int) -> _Part:
        items = scan.items[start : start + size]
        part, found = _look_at(plan, items, scan.vocabulary, folder / f"{start}.seen")
        with lock:
            rows.append(found)
        return part

    pool = concurrent.futures.ThreadPoolExecutor(threads, "judge")
    try:
        return list(pool.map(look_at, starts))
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at(
    plan: Plan, items: Sequence[Item], vocabulary: Sequence[str], place: Path
) -> tuple[_Part, list[bytes]]:
    """One shard, and its rows for the search."""
    source = open_source(plan.source, plan.options)
    near = decisions.near_settings(plan.settings).radius > 0
    seen: list[_Seen] = []
    rows: list[bytes] = []
    for file in read_files(source, items, plan.settings.pixel_limit, plan.store):
        item = file.item
        split = plan.rule.assign(file.image_hash or item.path, item.split, item.group)
        # By way of the Example: figures of 32 bits, as ImageFilter gets them.
        found = decisions.to_record(to_example(file, split, vocabulary))
        one, row = _first_look(found, plan.settings)
        seen.append(one)
        rows.append(row if near else b"")
        progress.advance(1, "images")
    candidates = [one.record for one in seen if one.judgement.reject is None]
    with place.open("wb") as out:
        pickle.dump(seen, out, pickle.HIGHEST_PROTOCOL)
    contents = matching.contents(record.image_hash for record in candidates)
    sizes = collections.Counter(record.pixels for record in candidates)
    return _Part(place, contents, sizes), rows


def _first_look(found: Record, settings: Settings) -> tuple[_Seen, bytes]:
    """Judge one file by itself; its bytes are not kept. With its row for the search."""
    record = checks.reviewed(found, settings)
    judgement = decisions.judge(record, settings)
    bare = dataclasses.replace(record, data=b"", measured=None, likeness=None)
    if judgement.reject is not None:
        return _Seen(bare, found.label, judgement), b""
    row = decisions.row(record, judgement)
    judgement = dataclasses.replace(judgement, likeness=None)
    if not judgement.repairs:
        return _Seen(bare, found.label, judgement), row
    _, done, failed = checks.mended(record, judgement)
    done = tuple(dataclasses.replace(repair, data=None) for repair in done)
    judgement = dataclasses.replace(judgement, repairs=())
    return _Seen(bare, found.label, judgement, done, failed), row


def _settle_all(
    parts: Sequence[_Part], rows: matching.Columns, settings: Settings
) -> tuple[Account, tuple[Mapping[str, Any], ...] | None]:
    """What becomes of every file, and the groups of near-duplicates as they are listed."""
    near_settings = decisions.near_settings(settings)
    found: dict[str, matching.Found] = {}
    if near_settings.radius > 0:
        found = dict(matching.find_in(rows, near_settings.radius))
    shared = matching.repeated([part.contents for part in parts])
    copies = _by_content(parts, shared | {bytes.fromhex(image_hash) for image_hash in found})
    drops = {
        drop.path: drop for group in copies.values() for drop in identical_files.resolve(group)
    }
    rulings, lines = _near(found, copies, near_settings)
    sizes: collections.Counter[int] = collections.Counter()
    for part in parts:
        sizes.update(part.sizes)
    settings = decisions.with_sizes(settings, sizes)
    account = Account()
    for part in parts:
        for one in part.seen():
            path = one.record.path
            _settle(one, drops.get(path), rulings.get(path), settings, account)
    return account, lines if near_settings.radius > 0 else None


def _by_content(
    parts: Iterable[_Part], wanted: Collection[bytes]
) -> dict[str, list[identical_files.Copy]]:
    """Files by content, of the contents that are wanted."""
    copies: dict[str, list[identical_files.Copy]] = collections.defaultdict(list)
    for part in parts:
        if not any(content.tobytes() in wanted for content in part.contents):
            continue
        for one in part.seen():
            record = one.record
            if one.judgement.reject is None and bytes.fromhex(record.image_hash) in wanted:
                copy = identical_files.Copy(record.path, record.split, record.label, record.group)
                copies[record.image_hash].append(copy)
    return copies


def _near(
    found: Mapping[str, matching.Found],
    copies: Mapping[str, list[identical_files.Copy]],
    settings: matching.NearSettings,
) -> tuple[dict[str, groups.Ruling], tuple[Mapping[str, Any], ...]]:
    """Ruling by path, and the groups as they are listed."""
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
    drop: identical_files.Drop | None,
    near: groups.Ruling | None,
    settings: Settings,
    account: Account,
) -> None:
    """What becomes of one file, now that the whole set is known."""
    account.read += 1
    judgement = decisions.finished(one.judgement, one.record, settings)
    reject = decisions.reject_of(one.record, judgement, drop, near)
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
