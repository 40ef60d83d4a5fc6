"""A .zip, .tar or .tar.gz archive as a source: it is unpacked once, and is a folder from then on.

Members that lead out of the archive, links and devices are left out, each with a note. An archive
that is damaged, or that expands more than images do, is refused as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import folder, local_files, unpacked, unpacking
from imgpipe.components.example_gen.sources.base import Item, Note, Scan, Source, SourceKind
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import regular_files
from imgpipe.serving.look import Look

#: Endings of archives that are read; the others get an error that says so.
READ = (".zip", ".tar", ".tar.gz", ".tgz")
_HEAD = 4096  # bytes by which the format of a file is named
_AGAIN = "If the images are your own, download the archive again, or unpack it and name the folder."


def takes(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names an archive."""
    return locator.lower().endswith(unpacking.ENDINGS) and not Path(locator).expanduser().is_dir()


@dataclass(frozen=True)
class ArchiveSource(Source):
    """One archive on a local or mounted file system."""

    file: str
    options: SourceOptions

    def listing(self) -> Scan:
        """Unpack the archive, unless it is in the cache, and list its files.

        Raises:
            ConfigError: The archive cannot be read, is damaged, or holds no file.
            ResourceError: There is no space to unpack it.
        """
        path = self._path()
        if path.is_dir():
            raise ConfigError(f"data source {self.file!r} is a folder; {unpacked.EXPECTED}")
        if not path.is_file():
            raise ConfigError(f"data source {self.file!r} does not exist; {unpacked.EXPECTED}")
        try:
            files, notes = self._unpacked()
        except OSError as error:
            raise self._unreadable(path, error) from None
        return listing(self.file, files, notes, self.options)

    def read(self, item: Item) -> bytes:
        """Read one file; see `Source.read`."""
        return regular_files.read_bytes(self._file(item), local_files.BYTE_LIMIT)

    def digest(self, item: Item) -> str:
        """Hash one file; see `Source.digest`."""
        return regular_files.sha256(self._file(item), local_files.BYTE_LIMIT)

    def _path(self) -> Path:
        return Path(self.file).expanduser().absolute()

    def _file(self, item: Item) -> Path:
        files, _ = self._unpacked()
        return files / item.path

    def _unpacked(self) -> tuple[Path, list[Note]]:
        return _unpacked(str(self._path()), self.options.store)

    def _unreadable(self, path: Path, error: OSError) -> ConfigError:
        """Say why an archive is not read."""
        if not self.file.lower().endswith(READ):
            with path.open("rb") as file:
                name, _ = Look(file.read(_HEAD)).described()
            return ConfigError(
                f"data source {self.file!r} is not read (it is: {name}); {unpacked.EXPECTED}. "
                f"{unpacking.advice(path)}"
            )
        why = error.strerror or error
        return ConfigError(f"data source {self.file!r} cannot be read: {why}. {_AGAIN}")


def listing(where: str, files: Path, notes: list[Note], options: SourceOptions) -> Scan:
    """List the folder of an archive that was unpacked.

    Args:
        where: The archive, as commands name it.
        files: The folder.
        notes: Notes of what was left out.
        options: How the source is read.
    """
    tree = folder.Walk(str(files), follow_links=False)
    tree.collect()
    if not tree.items and not tree.folders:
        why = f", but {notes[0].path!r} ({notes[0].detail})" if notes else ""
        raise ConfigError(f"data source {where!r}: found no file in it{why}; {unpacked.EXPECTED}")
    tree.notes += notes
    return folder.read_tree(where, files, tree, options)


@local_files.cached_until_changed(4)
def _unpacked(path: str, store: str) -> tuple[Path, list[Note]]:
    """Return the folder of a local archive, and the notes of what was left out."""
    file = Path(path)
    state = unpacked.version(file)
    return unpacked.kept(path, state, store, lambda to: unpacked.unpack_archive(file, to))


KINDS = (SourceKind("archive", ArchiveSource, takes, order=10),)
