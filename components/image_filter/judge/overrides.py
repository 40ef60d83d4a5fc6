"""Overrides: decisions of people about single images, in a file to review and commit.

    [[override]]
    image_hash = "9f86d081884c7d65…"        # SHA-256 of the file, 64 digits
    verdict = "accept"                       # or "reject", or "relabel"
    label = "dog"                            # for relabel
    path = "cat/owl.jpg"                     # for the reader; only the hash counts
    note = "small, but the only one"

A file that is moved or renamed keeps its override. The override of a changed file no longer applies
and is counted as unknown. Of several entries of one image the last one holds.
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import filelock
import pydantic
import tomli_w

from imgpipe.components.common.formatting import plural
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.files.regular_files import read_bytes
from imgpipe.models.settings.override import Override

_LOCK_SECONDS = 10.0  # how long to wait for another process that writes the same file
_LARGEST = 64 << 20  # bytes of a file, enough for about 300,000 entries
_TABLE = "override"
_HEADER = """\
# Decisions about single images, by content hash: accept, reject or relabel.
# Runs apply OUT/overrides.toml, or the file that judge.overrides names.
"""


def load(path: Path) -> tuple[Override, ...]:
    """Read a file of overrides.

    Args:
        path: Path of the TOML file.

    Returns:
        The overrides in the order of the file.

    Raises:
        ConfigError: The file cannot be read, is not valid TOML, or an entry is invalid.
    """
    try:
        tree = tomllib.loads(read_bytes(path, _LARGEST).decode())
    except OSError as error:
        raise ConfigError(
            f"judge.overrides: cannot read {path}: {error.strerror or error}."
        ) from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, too deep
        raise ConfigError(f"judge.overrides: {path} is not valid TOML: {error}.") from None
    entries = tree.pop(_TABLE, [])
    tables = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    if tree or not tables:
        raise ConfigError(
            f"judge.overrides: {path} holds {', '.join(tree) or 'an override that is no table'}; "
            f"expected only [[{_TABLE}]] tables"
        )
    overrides = []
    for number, entry in enumerate(entries, 1):
        try:
            overrides.append(Override(**entry))
        except pydantic.ValidationError as error:
            wrong = error.errors()[0]
            key = "".join(f"{part}: " for part in wrong["loc"])
            raise ConfigError(
                f"judge.overrides: {path}, entry {number}: {key}{wrong['msg']}. "
                f"Received: {wrong['input']!r}."
            ) from None
    return tuple({override.image_hash: override for override in overrides}.values())


def decisions(file: Path | None, vocabulary: Sequence[str]) -> tuple[Override, ...]:
    """Return the overrides of a file in order, for a component.

    They have the indices of their labels, and not what is for the reader.

    Raises:
        ConfigError: The file is refused; see `load`. Or images are relabelled to a class that the
            vocabulary lacks.
    """
    indices = {name: index for index, name in enumerate(vocabulary)}
    bare = [
        dataclasses.replace(entry, path="", note="", label_index=indices.get(entry.label, -1))
        for entry in (load(file) if file is not None else ())
    ]
    lost = collections.Counter(o.label for o in bare if o.label and o.label_index < 0)
    for label, count in lost.items():
        alike = "".join(difflib.get_close_matches(label, vocabulary, 1))
        renamed = f" If it is {alike!r} now, write that into these entries." if alike else ""
        raise ConfigError(
            f"judge.overrides: {file} relabels {plural(count, 'image')} to {label!r}, which is not "
            f"a class; expected one of {', '.join(vocabulary)}.{renamed} Otherwise remove these "
            "entries, or name a file without them: --set judge.overrides=FILE"
        )
    return tuple(sorted(bare, key=lambda override: override.decision))


def to_toml(overrides: Iterable[Override]) -> str:
    """Return the entries as TOML, to be appended to a file."""
    blocks = []
    for override in overrides:
        fields = dataclasses.asdict(override).items()
        values = {key: value for key, value in fields if isinstance(value, str) and value}
        blocks.append(f"\n[[{_TABLE}]]\n{tomli_w.dumps(values)}")
    return "".join(blocks)


def replace_entries(
    path: Path, changes: Mapping[str, Override | None]
) -> dict[str, Override | None]:
    """Replace the entries of some images in a file, which is created if it does not exist.

    First entries of images are appended, so that comments and the order of the file are kept.
    Otherwise the file is written again without its comments.

    Args:
        path: Path of the TOML file.
        changes: The new entry of each image by its hash; None to remove a decision.

    Returns:
        The entries of the images that were in the file; None where there was none.

    Raises:
        ConfigError: The file is invalid.
        ResourceError: Another process does not finish writing the file.
    """
    file = path.resolve()
    try:
        with filelock.FileLock(file.with_name(f".{file.name}.lock"), timeout=_LOCK_SECONDS):
            entries_before = load(path) if path.exists() else ()
            by_hash = {entry.image_hash: entry for entry in entries_before}
            old = {image_hash: by_hash.get(image_hash) for image_hash in changes}
            before = path.read_text(encoding="utf-8") if entries_before else ""
            if (
                any(old.values()) or f"[[{_TABLE}]]" not in before
            ):  # inline tables cannot be appended to
                left = (entry for entry in entries_before if entry.image_hash not in changes)
                before = _HEADER + to_toml(left)
            new = filter(None, changes.values())
            atomic_write(path, before.rstrip("\n") + "\n" + to_toml(new))
    except filelock.Timeout:
        raise ResourceError(
            f"{path}: another process has been writing this file for {_LOCK_SECONDS:.0f} s. Wait "
            "for it and try again."
        ) from None
    return old
