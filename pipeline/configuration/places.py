"""The places of a run: the absolute paths of the files and folders that it reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.data_gate.accepted import SCHEMA_FILE
from imgpipe.components.data_gate.settings import GATE_FILE
from imgpipe.components.model_pusher.settings import VERSIONS

DECISIONS = "overrides.toml"  # in the output folder: the decisions of a review


@dataclass(frozen=True)
class Places:
    """Absolute paths of a run.

    Attributes:
        out: Output folder.
        versions: Base path of the published versions.
        bank: Folder of the stored features.
        judge: Folder of the inspection cache.
        overrides: File of the decisions about single images; None if there is none.
    """

    out: Path
    versions: Path
    bank: Path
    judge: Path
    overrides: Path | None

    @classmethod
    def of(cls, out: str, versions: str, bank: str, judge: str, overrides: str) -> Places:
        """Return the places that settings name; an empty one has its usual name in `out`."""
        root = absolute_path(out)
        decisions = absolute_path(overrides) if overrides else root / DECISIONS
        return cls(
            root,
            absolute_path(versions) if versions else root / VERSIONS,
            absolute_path(bank) if bank else root / "bank",
            absolute_path(judge) if judge else root / "judge",
            decisions if overrides or decisions.is_file() else None,
        )

    @property
    def outputs(self) -> dict[str, Path]:
        """The folders to which a run writes, by the setting that names each of them."""
        return {
            "run.out": self.out,
            "push.directory": self.versions,
            "bank.store": self.bank,
            "judge.store": self.judge,
        }

    @property
    def schema(self) -> Path:
        """The accepted schema, whether or not it exists yet."""
        return self.out / "schema" / SCHEMA_FILE

    @property
    def axes(self) -> Path:
        """Folder of the axes of covariances that FeatureBank has made."""
        return self.out / "axes"

    @property
    def decision(self) -> Path:
        """A copy of DataGate's decision, as TFX removes the outputs after an error."""
        return self.out / GATE_FILE


def absolute_path(given: str) -> Path:
    """Return the absolute path of a setting, in which `~` may stand for the user's folder."""
    return Path(given).expanduser().absolute()
