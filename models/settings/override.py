"""The decision of a person about one image, which a file of overrides holds."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self, get_args

import pydantic

OverrideVerdict = Literal["accept", "reject", "relabel"]
VERDICTS: Final[tuple[OverrideVerdict, ...]] = get_args(OverrideVerdict)


def _whole_hash(value: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError("expected the SHA-256 of the file, 64 hex digits")
    return value


@pydantic.dataclasses.dataclass(frozen=True, config={"extra": "forbid", "strict": True})
class Override:
    """A decision about one image."""

    image_hash: Annotated[str, pydantic.AfterValidator(_whole_hash)]  # of the file as found
    verdict: OverrideVerdict
    label: str = ""  # the right class, for relabel
    path: str = ""
    note: str = ""
    label_index: int = -1  # index of `label` in the vocabulary, which `decisions` sets

    @pydantic.model_validator(mode="after")
    def _has_label(self) -> Self:
        if bool(self.label) != (self.verdict == "relabel"):
            raise ValueError("relabel needs a label; other verdicts take no label")
        return self

    @property
    def decision(self) -> tuple[str, str, str]:
        """The decision without what is for the reader."""
        return self.image_hash, self.verdict, self.label
