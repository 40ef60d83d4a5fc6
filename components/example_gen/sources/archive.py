"""A .zip, .tar or .tar.gz archive as a source: it is unpacked once, and is a folder from then on.

Members that lead out of the archive, links and devices are left out, each with a note. An archive
that is damaged, or that expands more than images do, is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.settings import SourceOptions
from imgpipe.components.example_gen.sources import folder_tree, local_files
from imgpipe.components.example_gen.sources.base import SourceKind
from imgpipe.components.example_gen.sources.folder import FolderSource
from imgpipe.models.errors import ConfigError
from imgpipe.models.finding import Finding

_AGAIN = (
    "If it is one of several parts, join them first. If the images are your own, download the "
    "archive again, or unpack it and name the folder."
)


def takes(locator: str, options: SourceOptions) -> bool:
    """Whether a plain path names an archive: by its ending, or without a known one by its bytes."""
    path = Path(locator).expanduser()
    if file_names.kind_by_ending(path.name) is not None:
        return locator.lower().endswith(local_files.READ) and not path.is_dir()
    return path.is_file() and folder_tree.kind_below(path.parent, path.name) == "archive"


class ArchiveSource(FolderSource):
    """One archive on a local or mounted file system."""

    def check(self) -> None:
        """Raise a ConfigError if it is no whole archive with files."""
        if not self.path.is_file():
            what = "is a folder" if self.path.is_dir() else "does not exist"
            raise ConfigError(f"data source {self.locator!r} {what}; {local_files.EXPECTED}")
        local_files.refuse_parts(self.locator)
        try:
            files, notes = self.opened()
        except OSError as error:
            why = f"data source {self.locator!r} cannot be read: {error.strerror or error}"
            raise ConfigError(f"{why}. {_AGAIN}") from None
        if notes and not any(path.is_file() for path in files.rglob("*")):
            left_out = notes[0]["examples"][0]
            raise ConfigError(
                f"data source {self.locator!r}: found no file in it, but {left_out['path']!r} "
                f"({left_out['detail']}); {local_files.EXPECTED}"
            )

    def opened(self) -> tuple[Path, Sequence[Finding]]:
        """Unpack the archive, unless it is in the cache; see `FolderSource.opened`.

        Raises ResourceError if there is no space to unpack it.
        """
        return _unpacked(str(self.path), local_files.cache_folder(self.options.store))


@local_files.cached_until_changed(4)
def _unpacked(path: str, cache: Path) -> tuple[Path, list[Finding]]:
    """Return the folder of an archive, and notes of what was left out."""
    file = Path(path)
    return local_files.kept(file, cache, lambda folder: local_files.unpack_archive(file, folder))


KINDS = (SourceKind("archive", ArchiveSource, takes, order=10),)
