"""The decision of a person about one image, which a file of overrides holds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, Literal, Self, get_args

import pydantic

from imgpipe.models import names

OverrideVerdict = Literal["accept", "reject", "relabel"]
VERDICTS: Final[tuple[OverrideVerdict, ...]] = get_args(OverrideVerdict)
LEAST_DIGITS: Final = 12  # of a hash, which suffice to name an image


def _digits(value: str) -> str:
    digits = value.lower().removeprefix("sha256:")
    if not re.fullmatch(rf"[0-9a-f]{{{LEAST_DIGITS},64}}", digits):
        raise ValueError(f"expected the SHA-256 of the file, at least {LEAST_DIGITS} hex digits")
    return digits


@pydantic.dataclasses.dataclass(frozen=True, config={"extra": "forbid", "strict": True})
class Override:
    """A decision about one image."""

    #: Hex SHA-256 of the file as found, or its first digits.
    image_hash: Annotated[str, pydantic.AfterValidator(_digits)]
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

    def relabels(self, split: str) -> bool:
        """Whether an image of this split gets another label.

        Labels of the test split never change, because the test accuracy is the check on all other
        choices and must not depend on them, so nothing is decided about an image of test that is
        relabelled.
        """
        return self.verdict == "relabel" and split != names.TEST


def by_hash(overrides: Iterable[Override]) -> Mapping[str, Sequence[Override]]:
    """Return the overrides by the first digits of their hashes, for `of_image`."""
    by_digits: dict[str, list[Override]] = defaultdict(list)
    for override in overrides:
        by_digits[override.image_hash[:LEAST_DIGITS]].append(override)
    return by_digits


def of_image(image_hash: str, overrides: Mapping[str, Sequence[Override]]) -> tuple[Override, ...]:
    """Return the overrides of an image, which say the same, of those that `by_hash` returned.

    `image_hash` is the whole hash, "" for a file that could not be read.
    """
    alike = overrides.get(image_hash[:LEAST_DIGITS], ())
    return tuple(entry for entry in alike if image_hash.startswith(entry.image_hash))
