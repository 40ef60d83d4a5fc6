"""What is recorded about the images of a source: counts, families and findings."""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.image_filter.file_clues import FileClues
from imgpipe.models.finding import Finding


class Overrides(TypedDict):
    """Effects of the overrides."""

    applied: Annotated[dict[str, int], "Number of images by verdict."]
    relabelled: Annotated[dict[str, int], "Number of images with another label, by split."]
    unknown: Annotated[list[str], "Hashes of overrides that match no file."]


class Family(TypedDict):
    """A family of images."""

    name: Annotated[str, "Beginning of the names of its files, first image of the burst, or group."]
    images: Annotated[int, "Number of images that are kept."]


class Families(TypedDict):
    """Images that belong together, because they show the same thing."""

    found: Annotated[
        bool,
        "Whether file names and capture times tell the families; if not, a pattern or a column "
        "gives them.",
    ]
    families: Annotated[int, "Number of families."]
    images: Annotated[int, "Number of images in families."]
    examples: Annotated[list[Family], "The largest families."]
    independent: Annotated[dict[str, int], "Families and images without one, by split."]
    divided: Annotated[
        dict[str, int],
        "Images of validation and test whose family has images in train, by split. Only a source "
        "that names the splits divides families.",
    ]


#: The counts of a set of images.
DataCounts = TypedDict(
    "DataCounts",
    {
        "in": Annotated[int, "Files that were read."],
        "kept": Annotated[int, "Images that a run would use."],
        "rejected": Annotated[int, "Files that a run would put into quarantine."],
        "repaired": Annotated[int, "Images that a run would store as PNG."],
        "transcoded": Annotated[
            dict[str, int],
            "Kept images that the served model cannot decode, by format.",
        ],
        "too_large": Annotated[
            int, "Kept images of more pixels or bytes than a server takes by default."
        ],
        "by_reason": Annotated[dict[str, int], "Number of rejected files by reason."],
        "by_split": Annotated[dict[str, dict[str, int]], "Number of images by split and class."],
        "families": Annotated[Families, "Images that belong together."],
        "file_clues": Annotated[
            FileClues | None,
            "How well properties of the files tell the classes apart; null if there are too few "
            "images, or a single class.",
        ],
        "overrides": Annotated[Overrides, "Effects of the overrides."],
    },
)


class DataSummary(DataCounts):
    """The counts of a set of images, and what was found out about it."""

    findings: Annotated[
        list[Finding],
        "Findings in the files, notes of the source, and what follows from the counts.",
    ]
