"""``imgpipe run --dry-run``: what a run would do, without doing it and without TensorFlow's load.

The store is asked for every (image, view) that a run would need, so the forward passes named are
those a run would make, but for files that turn out to be rejected.
"""

from __future__ import annotations

from collections import Counter

from components.bank_store import FeatureStore, record_key
from components.sources import Item, Scan
from components.sources.splits import SplitRule
from models import feature_names as names
from models.extractor import FeatureExtractor
from pipeline import inputs as run_inputs
from pipeline.config import Config
from pipeline.run import scan

_MIB = 1 << 20


def describe(config: Config) -> str:
    """A few lines: images, splits, forward passes, disk, baseline."""
    found = scan(config)
    extractor = FeatureExtractor(
        backbone=config.model.backbone,
        image_size=config.model.image_size,
        precision=config.bank.precision,
        views=config.views.spec,
    )
    keys = _keys(config, found, extractor)
    stored = 0
    if (config.bank_store / "features.sqlite").exists():
        store = FeatureStore(config.bank_store, extractor.dim)
        stored = len(store.get(sorted(keys)))
        store.close()
    inputs = run_inputs.find(config, found)
    rule = _rule(config, found)
    splits = Counter(
        rule.assign(item.sha256, item.split, item.group) for item in found.items if _usable(item)
    )
    to_make = len(keys) - stored
    lines = [
        f"source      {config.data.source}: {len(found.items)} files, "
        f"{len(found.vocabulary)} classes ({', '.join(found.vocabulary)})",
        "splits      " + ", ".join(f"{name} {splits[name]}" for name in names.SPLITS),
        *_seen(found),
        f"backbone    {config.model.backbone}, {extractor.precision}, "
        f"{config.views.count} augmented views",
        f"forward     {to_make} passes to make, {stored} of {len(keys)} in the bank",
        f"bank grows  {to_make * extractor.dim * 2 / _MIB:.1f} MiB in {config.bank_store}",
        "baseline    "
        + (f"version {inputs.baseline_version}" if inputs.baseline_version else "none yet"),
        f"push to     {config.push_directory}, keeping {config.push.keep}",
    ]
    return "\n".join(lines)


def _seen(found: Scan) -> list[str]:
    """Lines on groups and on what the source reports, where there is any."""
    lines = []
    if found.groups():
        lines.append(f"groups      {found.groups()}, none of them in two splits")
    problems = Counter(item.problem.split(":")[0] for item in found.items if item.problem)
    noted = Counter(note.kind for note in found.notes)
    said = [f"{kind} {count}" for kind, count in sorted((problems + noted).items())]
    return [*lines, f"reported    {', '.join(said)}"] if said else lines


def _usable(item: Item) -> bool:
    return bool(item.label and item.sha256 and not item.problem)


def _rule(config: Config, found: Scan) -> SplitRule:
    split = config.split
    return SplitRule(split.seed, split.validation, split.test, found.given_splits)


def _keys(config: Config, found: Scan, extractor: FeatureExtractor) -> set[bytes]:
    views = {view: extractor.key(view) for view in range(config.views.count + 1)}
    keys = set()
    rule = _rule(config, found)
    for item in found.items:
        if not _usable(item):
            continue
        train = rule.assign(item.sha256, item.split, item.group) == names.TRAIN
        for view in range(config.views.count + 1) if train else (0,):
            keys.add(record_key(item.sha256, views[view]))
    return keys
