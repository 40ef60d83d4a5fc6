"""Overrides: decisions of people about single images, in a file to review and commit.

    [[override]]
    image_hash = "9f86d081884c7d65…"        # SHA-256 of the file, or at least 12 digits of it
    verdict = "accept"                       # or "reject", or "relabel"
    label = "dog"                            # for relabel
    path = "cat/owl.jpg"                     # for the reader; only the hash counts
    note = "small, but the only one"
    confirmed = true                         # the default; false for a proposal

A file that is moved or renamed keeps its override. The override of a changed file no longer applies
and is reported as unknown. A proposal, such as an entry of `suspects.toml`, changes nothing
until a person confirms it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import filelock
import tomli_w

from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.files.regular_files import read_bytes

OverrideVerdict = Literal["accept", "reject", "relabel"]
VERDICTS: tuple[OverrideVerdict, ...] = get_args(OverrideVerdict)
_HASH = re.compile(r"[0-9a-f]{12,64}")
_LENGTHS = range(12, 64)  # of hashes that are given by their first digits
_LOCK_SECONDS = 10.0  # how long to wait for another process that writes the same file
_LARGEST = 64 << 20  # bytes of a file, enough for about 300,000 entries
_TABLE = "override"
#: Heading of an entry and the hash in it, to remove one entry from the text of a file.
_HEADING = re.compile(rf"^[ \t]*\[\[[ \t]*{_TABLE}[ \t]*\]\]", re.MULTILINE)
_DIGITS = re.compile(r"^\s*image_hash\s*=\s*[\"'](?:sha256:)?([0-9a-fA-F]+)[\"']", re.MULTILINE)
_HEADER = """\
# Decisions about single images, by content hash: accept, reject or relabel.
# Review and commit this file; judge.overrides names it.
"""


@dataclass(frozen=True)
class Override:
    """A decision about one image."""

    image_hash: str  # hex SHA-256 of the file as found, or its first digits
    verdict: OverrideVerdict
    label: str = ""  # the right class, for relabel
    path: str = ""
    note: str = ""
    confirmed: bool = True  # whether a person decided this; otherwise it is a proposal
    label_index: int = -1  # index of `label` in the vocabulary, which `resolve` sets

    def accepts(self, split: str) -> bool:
        """Whether an image of this split is kept although a check rejects it.

        A person who gives an image its label wants it to be kept. Labels of the test split never
        change, because the test accuracy is the check on all other choices and must not depend on
        them, so nothing is decided about an image of test that is relabelled.
        """
        return self.verdict == "accept" or (self.verdict == "relabel" and split != names.TEST)


def load(path: Path) -> tuple[Override, ...]:
    """Read a file of overrides.

    Args:
        path: Path of the TOML file.

    Returns:
        The overrides in the order of the file, including proposals.

    Raises:
        ConfigError: The file cannot be read, is not valid TOML, or an entry is invalid.
    """
    try:
        text = read_bytes(path, _LARGEST).decode()
    except OSError as error:
        raise ConfigError(
            f"judge.overrides: cannot read {path}: {error.strerror or error}."
        ) from None
    except ValueError as error:  # no UTF-8
        raise ConfigError(f"judge.overrides: {path} is not valid TOML: {error}.") from None
    return _parsed(text, path)


def _parsed(text: str, path: Path) -> tuple[Override, ...]:
    """Read the text of a file of overrides; the path is for the errors."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # no TOML, too deep
        raise ConfigError(f"judge.overrides: {path} is not valid TOML: {error}.") from None
    entries = tree.pop(_TABLE, [])
    if tree or not isinstance(entries, list):
        raise ConfigError(
            f"judge.overrides: {path} holds {', '.join(tree) or 'an override that is not a list'}; "
            f"expected only [[{_TABLE}]] tables"
        )
    found = tuple(_entry(entry, f"{path}, entry {n}") for n, entry in enumerate(entries, 1))
    _contradictions(found, path)
    return found


def _entry(entry: object, where: str) -> Override:
    known = [field.name for field in dataclasses.fields(Override) if field.name != "label_index"]
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected a table. Received: {entry!r}.")
    for key, value in entry.items():
        expected, kind = ("true or false", bool) if key == "confirmed" else ("a text", str)
        if not isinstance(value, kind):
            raise ConfigError(f"{where}: {key} takes {expected}. Received: {value!r}.")
    if unknown := sorted(set(entry) - set(known)):
        raise ConfigError(
            f"{where}: unknown key {', '.join(unknown)}; expected any of {', '.join(known)}"
        )
    override = Override(**{"image_hash": "", "verdict": "", **entry})
    digest = override.image_hash.lower().removeprefix("sha256:")
    if not _HASH.fullmatch(digest):
        raise ConfigError(
            f"{where}: image_hash takes the SHA-256 of the file, at least 12 hex digits. "
            f"Received: {override.image_hash!r}."
        )
    if override.verdict not in VERDICTS:
        raise ConfigError(
            f"{where}: verdict takes {', '.join(VERDICTS)}. Received: {override.verdict!r}."
        )
    if bool(override.label) != (override.verdict == "relabel"):
        raise ConfigError(f"{where}: relabel needs a label; other verdicts take no label.")
    return dataclasses.replace(override, image_hash=digest)


def _contradictions(overrides: Sequence[Override], path: Path) -> None:
    """Raise ConfigError when two overrides of one image contradict each other."""
    seen: dict[str, Override] = {}
    lengths: set[int] = set()
    # The shortest hashes come first: each later one is compared with those that it begins with.
    for override in sorted(confirmed(overrides), key=lambda o: len(o.image_hash)):
        digest = override.image_hash
        lengths.add(len(digest))
        for length in lengths:
            other = seen.get(digest[:length])
            if other and (other.verdict, other.label) != (override.verdict, override.label):
                raise ConfigError(
                    f"judge.overrides: {path} says both {_words(other)} and {_words(override)} "
                    f"of {digest[:12]}…; keep one"
                )
        seen[digest] = override


def _words(override: Override) -> str:
    return f"{override.verdict} {override.label}".strip()


def confirmed(overrides: Iterable[Override]) -> tuple[Override, ...]:
    """Return the confirmed entries, without the proposals."""
    return tuple(override for override in overrides if override.confirmed)


def resolve(overrides: Iterable[Override], vocabulary: Sequence[str]) -> Mapping[str, Override]:
    """Return the confirmed overrides by hash, with the vocabulary indices of their labels.

    Raises:
        ConfigError: An image is relabelled to a class that the vocabulary lacks.
    """
    indices = {name: index for index, name in enumerate(vocabulary)}
    found = {}
    for override in confirmed(overrides):
        if override.verdict == "relabel" and override.label not in indices:
            raise ConfigError(
                f"judge.overrides: {override.image_hash[:12]}… is relabelled to "
                f"{override.label!r}, which is not a class; expected one of "
                + ", ".join(vocabulary)
            )
        index = indices.get(override.label, -1)
        found[override.image_hash] = dataclasses.replace(override, label_index=index)
    return found


def find(overrides: Mapping[str, Override], image_hash: str) -> Override | None:
    """Return the override of an image, whose hash may be given in full or by its first digits."""
    if not overrides or not image_hash:
        return None
    if whole := overrides.get(image_hash):
        return whole
    return next((o for n in _LENGTHS if (o := overrides.get(image_hash[:n]))), None)


def to_json(overrides: Iterable[Override]) -> str:
    """Return the confirmed overrides as JSON without notes and paths, for a component."""
    rows = sorted((o.image_hash, o.verdict, o.label) for o in confirmed(overrides))
    return json.dumps(rows, separators=(",", ":"))


def from_json(text: str) -> tuple[Override, ...]:
    """Return the overrides that `to_json` wrote."""
    return tuple(Override(digest, verdict, label) for digest, verdict, label in json.loads(text))


def to_toml(overrides: Iterable[Override]) -> str:
    """Return the entries as TOML, to be appended to a file."""
    blocks = []
    for override in overrides:
        fields = dataclasses.asdict(override)
        values: dict[str, str | bool] = {
            key: value for key, value in fields.items() if isinstance(value, str) and value
        }
        values["confirmed"] = override.confirmed
        blocks.append(f"\n[[{_TABLE}]]\n{tomli_w.dumps(values)}")
    return "".join(blocks)


def add(path: Path, overrides: Sequence[Override]) -> int:
    """Append overrides to a file, which is created if it does not exist.

    Comments and the order of the file are kept. Overrides that are already in the file are skipped,
    and of several with the same decision about one image, all but the first.

    Args:
        path: Path of the TOML file.
        overrides: The overrides to append.

    Returns:
        Number of overrides that were appended.

    Raises:
        ConfigError: The file is invalid, or contradicts one of the overrides.
        ResourceError: Another process does not finish writing the file.
    """
    # A file that says everything already may be in a folder where nothing can be written.
    if not _fresh(load(path) if path.exists() else (), overrides):
        return 0
    with _locked(path):
        there = load(path) if path.exists() else ()
        fresh = _fresh(there, overrides)
        _contradictions([*there, *fresh], path)
        if fresh:
            before = path.read_text(encoding="utf-8") if path.exists() else _HEADER
            text = before.rstrip("\n") + "\n" + to_toml(fresh)
            _write(path, text, (*there, *fresh))
    return len(fresh)


def _fresh(there: Iterable[Override], overrides: Iterable[Override]) -> list[Override]:
    """Return the overrides whose decisions are not in a file yet, each decision once."""
    known = {(o.image_hash, o.verdict, o.label) for o in confirmed(there)}
    fresh = []
    for override in overrides:
        decision = (override.image_hash, override.verdict, override.label)
        if decision not in known:
            known.add(decision)
            fresh.append(override)
    return fresh


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Be the only process that edits the file; the system frees the lock if the process dies.

    Where no lock can be had, the file is written without one: another user may own the lock file,
    and some network file systems have no locks.
    """
    file = path.resolve()
    held: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    try:
        held = filelock.FileLock(file.with_name(f".{file.name}.lock")).acquire(_LOCK_SECONDS)
    except filelock.Timeout:
        raise ResourceError(
            f"{path}: another process has been writing this file for {_LOCK_SECONDS:.0f} s. Wait "
            "for it and try again."
        ) from None
    except (OSError, NotImplementedError):
        pass
    with held:
        yield


def _write(path: Path, text: str, wanted: tuple[Override, ...]) -> None:
    """Write an edited text, or, if it does not say what is wanted, all entries without comments.

    TOML has other notations than tables, such as a list of inline tables, which cannot be edited.
    """
    try:
        faithful = _parsed(text, path) == wanted
    except ConfigError:
        faithful = False
    atomic_write(path, text if faithful else _HEADER + to_toml(wanted))


def of_image(overrides: Iterable[Override], image_hash: str) -> tuple[Override, ...]:
    """Return the entries of one image, including proposals.

    Args:
        overrides: Entries, whose hashes may be given by their first digits.
        image_hash: The whole hash of the image.
    """
    return tuple(o for o in overrides if image_hash.startswith(o.image_hash))


def replace(path: Path, image_hash: str, entries: Sequence[Override]) -> tuple[Override, ...]:
    """Replace all entries of one image in a file, which is created if it does not exist.

    The text of the other entries, with its comments, is kept wherever that is possible.

    Args:
        path: Path of the TOML file.
        image_hash: The whole hash of the image.
        entries: The new entries of the image; empty to remove the decision.

    Returns:
        The entries of the image that were in the file.

    Raises:
        ConfigError: The file is invalid.
        ResourceError: Another process does not finish writing the file.
    """
    with _locked(path):
        there = load(path) if path.exists() else ()
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        old = of_image(there, image_hash)
        wanted = (*(o for o in there if o not in old), *entries)
        text = (_without(before, image_hash) or _HEADER).rstrip("\n") + "\n" + to_toml(entries)
        _write(path, text, wanted)
    return old


def _without(text: str, image_hash: str) -> str:
    """Remove the tables of one image from the text of a file; comments before a table stay."""
    starts = [found.start() for found in _HEADING.finditer(text)]
    parts = [text[: starts[0]]] if starts else [text]
    for start, end in itertools.pairwise([*starts, len(text)]):
        table = text[start:end]
        digits = _DIGITS.search(table)
        if digits and image_hash.startswith(digits[1].lower()):
            # The comments at its end belong to the table that follows.
            lines = reversed(table.splitlines(keepends=True))
            table = "".join(reversed([*itertools.takewhile(_is_comment, lines)]))
        parts.append(table)
    return "".join(parts)


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")
