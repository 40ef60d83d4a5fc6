"""``imgpipe run --dry-run``: describes what a run would do.

Every image and view that a run would need is looked up in the feature bank, so the number of
forward passes is that of a run. The engine of ImageFilter decides about files that an earlier run
inspected: a rejected file needs no forward pass, and a repaired file needs those of its repaired
bytes. Nothing is known about files that no run has inspected, and about duplicates. TensorFlow is
loaded only if an inspected file has to be repaired.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from imgpipe.components.example_gen import inspection_cache
from imgpipe.components.example_gen.inspection import Inspection
from imgpipe.components.example_gen.inspection_cache import InspectionCache
from imgpipe.components.example_gen.sources import Item, Scan
from imgpipe.components.example_gen.sources.items import in_reading_order
from imgpipe.components.feature_bank.store import STORE, FeatureStore, record_key
from imgpipe.components.image_filter.decision import decide
from imgpipe.components.splits import SplitRule
from imgpipe.components.storage import blob_store
from imgpipe.models import feature_names as names
from imgpipe.models.features.extractor import FeatureExtractor, from_description
from imgpipe.models.features.extractor import describe as describe_bank
from imgpipe.models.features.folds import AUTOMATIC, FEW_IMAGES, FOLDS
from imgpipe.pipeline import inputs as run_inputs
from imgpipe.pipeline.configuration import beam_options
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.execution import preconditions, without_effect
from imgpipe.pipeline.source import opened, scan

_MIB = 1 << 20
_AT_ONCE = 500  # arrays that are read from the store at a time

#: A forward pass: the content hash of the image and the number of the view.
_Pass = tuple[str, int]


def describe(config: Config) -> str:
    """Describe what a run would do.

    Args:
        config: The validated configuration.

    Returns:
        Lines on images, splits, forward passes, disk space and baseline.

    Raises:
        ConfigError: A run would refuse the settings or the source.
    """
    config = config.with_absolute_paths()
    preconditions.check(config)
    listing = scan(config)
    settings = config.settings
    extractor = from_description(describe_bank(settings, config.bank.precision))
    # Where all layers are trained, nothing is stored in the feature bank.
    passes = _passes(config, listing) if settings.frozen else set()
    stored, row = _stored(config, extractor, passes)
    inputs = run_inputs.find(config, listing)
    rule = _rule(config, listing)
    splits = Counter(
        rule.assign(item.content, item.split, item.group) for item in listing.items if _usable(item)
    )
    to_make = len(passes) - stored
    lines = [
        f"source      {config.data.source}: {len(listing.items)} files, "
        f"{len(listing.vocabulary)} classes ({', '.join(listing.vocabulary)})",
        # Near-duplicates that are placed together, and minimums of classes, are not known yet.
        f"splits      {'about ' if rule.drawn else ''}"
        + ", ".join(f"{name} {splits[name]}" for name in names.SPLITS),
        *_source_lines(listing),
        *_network(config, extractor.precision),
        *(
            [
                f"features    up to {to_make} to compute (images and their augmented copies); "
                f"{stored} are stored already"
            ]
            if passes
            else []
        ),
        *([f"bank grows  {to_make * row / _MIB:.1f} MiB in {config.bank_store}"] if row else []),
        *_optional(config, splits),
        f"compared    with version {inputs.baseline_version}, if it has the same classes and splits"
        if inputs.baseline_version
        else "compared    with no version, because none is published yet",
        f"publish to  {config.push_directory}, keeping {config.push.keep} versions",
        *(f"note        {note}" for note in _notes(config)),
    ]
    return "\n".join(lines)


def _network(config: Config, precision: str) -> list[str]:
    """Lines on the network: which layers are trained, and on how many views."""
    model, settings = config.model, config.settings
    tune, count = settings.fine_tune, settings.views.count
    if not settings.frozen:
        views = "a new view of each image in every epoch" if count else "no augmentation"
        return [f"network     {model.network}, all layers are trained, {views}"]
    views = f"{count} augmented views" if count else "no augmented view"
    if config.chooses_views:
        views = f"up to {views}, as long as they help"
    lines = [f"backbone    {model.network}, frozen, {precision}, {views}"]
    if tune.wanted:
        layers = f"the layers above {tune.cut}" if tune.cut else "the last third of the network"
        lines.append(f"fine-tunes  {layers}, at most {tune.epochs} epochs")
    elif settings.searches:
        time = (
            "a time that depends on the images"
            if settings.minutes is None
            else f"{settings.minutes:g} minutes"
        )
        lines.append(f"searches    networks that are better than the head, within {time}")
    return lines


def _notes(config: Config) -> list[str]:
    """Sentences on what a run would not heed, and on what a dry run does not check."""
    found = without_effect.notes(config)
    cuts = {"model.cut": config.model.cut, "fine_tune.cut": config.fine_tune.cut}
    without = " ".join(found)
    for name in (name for name, given in cuts.items() if given and name not in without):
        found.append(f"{name}: only a run checks that the network has this layer.")
    return found


def _optional(config: Config, splits: Counter[str]) -> list[str]:
    """Lines on the search for settings, on folds and on LiteRT files."""
    lines = []
    if config.tune.trials:
        lines.append(f"tunes       the head, in {config.tune.trials} trials")
    held_out = splits[names.VALIDATION]
    images = splits[names.TRAIN] + held_out
    if config.folds > 0:
        lines.append(f"folds       {config.folds} over {images} images")
    elif config.folds == AUTOMATIC and held_out < FEW_IMAGES:
        why = f"because validation has only {held_out}"
        lines.append(f"folds       {FOLDS} over {images} images, {why}")
    if config.export.lite:
        lines.append(f"LiteRT      {', '.join(config.export.lite)}, each evaluated separately")
    return lines


def _stored(config: Config, extractor: FeatureExtractor, passes: set[_Pass]) -> tuple[int, int]:
    """Return the number of stored views, and bytes of one view (0 if nothing is stored yet).

    A view is stored if everything that a run would store of it is: its features and, if the
    network is cut, its activations.
    """
    bank = beam_options.store(config.beam, config.bank_store)
    if not blob_store.place_of(bank, STORE).exists():
        return 0, 0
    store, left = FeatureStore(bank), passes
    shapes = store.shapes(extractor)
    if shapes is None:
        store.close()
        return 0, 0
    lengths = {"": shapes.dim}
    if shapes.activations:
        lengths[extractor.tap] = shapes.activation_count
    for tap, length in lengths.items():
        left = _found(store, extractor, left, tap, length)
    store.close()
    # Features and activations are stored as numbers of 2 bytes.
    return len(left), 2 * sum(lengths.values())


def _found(
    store: FeatureStore, extractor: FeatureExtractor, passes: set[_Pass], tap: str, length: int
) -> set[_Pass]:
    """Return the views of which the store has the output of a layer."""
    views = {view: extractor.key(view, tap) for view in {view for _, view in passes}}
    keys = {record_key(content, views[view]): (content, view) for content, view in passes}
    ordered, found = sorted(keys), set()
    for start in range(0, len(ordered), _AT_ONCE):  # the arrays of all would not fit into memory
        found |= {keys[key] for key in store.get(ordered[start : start + _AT_ONCE], length)}
    return found


def _source_lines(listing: Scan) -> list[str]:
    """Lines on groups and on problems that the source reports."""
    lines = []
    if listing.groups():
        lines.append(f"groups      {listing.groups()}, each of which stays in one split")
    # A problem is written as "kind: detail".
    problems = Counter(item.problem.split(":")[0] for item in listing.items if item.problem)
    counts = [f"{kind} {count}" for kind, count in sorted((problems + listing.noted()).items())]
    return [*lines, f"reported    {', '.join(counts)}"] if counts else lines


def _usable(item: Item) -> bool:
    return bool(item.label and item.content and not item.problem)


def _rule(config: Config, listing: Scan) -> SplitRule:
    return run_inputs.split_rule(config, listing.given_splits)


def _passes(config: Config, listing: Scan) -> set[_Pass]:
    found = set()
    rule = _rule(config, listing)
    for item, content in contents(config, listing):
        train = rule.assign(item.content, item.split, item.group) == names.TRAIN
        # Only training images are augmented; of the others, view 0 is the image itself.
        for view in range(config.settings.views.count + 1) if train else (0,):
            found.add((content, view))
    return found


def contents(config: Config, listing: Scan) -> Iterator[tuple[Item, str]]:
    """Usable files with the hexadecimal SHA-256 of the bytes that a run would decode."""
    settings = run_inputs.judge_settings(config, listing.vocabulary)
    store = beam_options.store(config.beam, config.judge_store)
    # A dry run creates no files, so a cache that does not exist is not opened.
    known = store if blob_store.place_of(store, inspection_cache.STORE).exists() else ""
    source = opened(config)
    with InspectionCache(known, settings.pixel_limit) as cache:
        inspection = Inspection(
            source, settings.pixel_limit, cache, _rule(config, listing), listing.vocabulary
        )
        for item in filter(_usable, in_reading_order(listing.items)):
            record = inspection.known(item) if item.sha256 else None
            decision = decide(record, settings) if record is not None else None
            if decision is None:
                yield item, item.content
            elif decision.rejection is None:
                yield item, decision.kept.content_hash
