"""What is recorded about the images of a source: counts, warnings, notes and families."""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.image_filter.file_clues import FileClues


class Warned(TypedDict):
    """Warnings with the same reason."""

    reason: Annotated[str, "Name of the check."]
    count: Annotated[int, "Number of findings."]
    details: Annotated[dict[str, int], "Number of findings by detail, of the first details."]
    paths: Annotated[list[str], "Paths of the worst images."]
    image_hashes: Annotated[list[str], "SHA-256 of the files of these images."]


class Noted(TypedDict):
    """Something that was noticed about files or folders of the source."""

    kind: Annotated[str, "Kind of note."]
    count: Annotated[int, "Number of files or folders."]
    detail: Annotated[str, "What was noticed about the first of them; empty if the kind says all."]
    paths: Annotated[list[str], "Paths of the first files or folders."]


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


#: The counts of a set of images, and its warnings and notes with their first paths.
DataSummary = TypedDict(
    "DataSummary",
    {
        "in": Annotated[int, "Files that were read."],
        "kept": Annotated[int, "Images that a run would use."],
        "rejected": Annotated[int, "Files that a run would put into quarantine."],
        "repaired": Annotated[int, "Images that a run would re-encode."],
        "repaired_by": Annotated[dict[str, int], "Number of repairs by check."],
        "transcoded": Annotated[
            dict[str, int],
            "Kept images that the served model cannot decode, by format.",
        ],
        "too_large": Annotated[
            int, "Kept images of more pixels or bytes than a server takes by default."
        ],
        "by_reason": Annotated[dict[str, int], "Number of rejected files by reason."],
        "by_split": Annotated[dict[str, dict[str, int]], "Number of images by split and class."],
        "moved": Annotated[
            dict[str, int],
            "Images in another split than the one drawn, by reason: `near_duplicates_together` or "
            "`class_minimum`.",
        ],
        "families": Annotated[Families, "Images that belong together."],
        "file_clues": Annotated[
            FileClues | None,
            "How well properties of the files tell the classes apart; null if there are too few "
            "images, or a single class.",
        ],
        "warnings": Annotated[list[Warned], "Warnings by check."],
        "notes": Annotated[list[Noted], "Notes of the source."],
        "unused": Annotated[str, "What the source holds and nothing used; empty for nothing."],
        "left_out": Annotated[int, "Number of images in it."],
        "overrides": Annotated[Overrides, "Effects of the overrides."],
    },
)
