"""What the commands about images and about the accepted schema write."""

from __future__ import annotations

from typing import Annotated, TypedDict

from imgpipe.pipeline.json_formats.common import Document
from imgpipe.pipeline.json_formats.run import Counted


class Rejected(TypedDict):
    """A rejected file."""

    path: Annotated[str, "Path in the source."]
    label: Annotated[str, "Label of the file."]
    split: Annotated[str, "Split of the file."]
    image_hash: Annotated[str, "SHA-256 of the file."]
    reason: Annotated[str, "Name of the check."]
    detail: Annotated[str, "What was found."]
    override: Annotated[str, "What to do to keep the file."]
    kept_copy: Annotated[str, "Path of the file that is kept instead; empty without one."]
    stored: Annotated[str, "Name of the file in the quarantine; empty without a run."]


class Found(TypedDict):
    """A file with a finding that is kept."""

    path: Annotated[str, "Path in the source."]
    label: Annotated[str, "Label of the file."]
    split: Annotated[str, "Split of the file."]
    image_hash: Annotated[str, "SHA-256 of the file."]
    reason: Annotated[str, "Name of the check."]
    detail: Annotated[str, "What was found."]
    score: Annotated[float, "Score of the image in this check; the lowest is the worst."]


class Files(TypedDict):
    """Files by what happens to them."""

    rejected: Annotated[list[Rejected], "Files that a run would put into quarantine."]
    repaired: Annotated[list[Found], "Files that a run would re-encode."]
    warned: Annotated[list[Found], "Kept files with a warning."]
    reviewed: Annotated[list[Found], "Files with an override."]


class Member(TypedDict):
    """An image of a group of near-duplicates."""

    path: Annotated[str, "Path in the source."]
    split: Annotated[str, "Split of the image."]
    label: Annotated[str, "Label of the image."]
    image_hash: Annotated[str, "SHA-256 of the file."]
    stays: Annotated[bool, "Whether the image is kept."]
    reason: Annotated[str, "Name of the check; empty without a finding."]
    detail: Annotated[str, "What was found."]
    similar_to: Annotated[str, "Path of the image to which it is similar."]


class NearGroup(TypedDict):
    """A group of near-duplicates."""

    radius: Annotated[int, "Largest number of differing bits between near-duplicates."]
    members: Annotated[list[Member], "Images of the group."]


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


class Check(Counted, Document):
    """What a run would reject, repair and warn about."""

    source: Annotated[str, "The source of the images."]
    classes: Annotated[list[str], "Class names."]
    refused: Annotated[bool, "Whether a run would refuse the data (exit code 4)."]
    verdict: Annotated[str, "The decision as a sentence."]
    reasons: Annotated[list[str], "Why a run would refuse the data."]
    thin: Annotated[list[str], "The reasons that are about classes with too few images."]
    kept: Annotated[int, "Images that a run would use."]
    rejected: Annotated[int, "Files that a run would put into quarantine."]
    repaired: Annotated[int, "Images that a run would re-encode."]
    repaired_by: Annotated[dict[str, int], "Number of repairs by check."]
    by_reason: Annotated[dict[str, int], "Number of rejected files by reason."]
    by_split: Annotated[dict[str, dict[str, int]], "Number of images by split and class."]
    moved: Annotated[
        dict[str, int],
        "Images in another split than the one drawn, by reason: `near_duplicates_together` or "
        "`class_minimum`.",
    ]
    warnings: Annotated[list[Warned], "Warnings by check."]
    notes: Annotated[list[Noted], "Notes of the source."]
    overrides: Annotated[Overrides, "Effects of the overrides."]
    files: Annotated[Files, "All files with a finding."]
    set_aside: Annotated[
        dict[str, int],
        "Number of training images that are rejected as near-duplicates of held-out images, by the "
        "split of the held-out images.",
    ]
    near_duplicates: Annotated[
        list[NearGroup] | None, "Groups of near-duplicates; null if they were not searched for."
    ]
    seconds: Annotated[float, "Duration of the checks, without the start of TensorFlow."]


class QuarantineRow(Document, total=False):
    """One object for each file, on a line of its own. Empty fields are left out."""

    path: Annotated[str, "Path in the source."]
    image_hash: Annotated[str, "SHA-256 of the file."]
    reason: Annotated[str, "Name of the check."]
    detail: Annotated[str, "What was found."]
    label: Annotated[str, "Label of the file."]
    split: Annotated[str, "Split of the file."]
    override: Annotated[str, "What to do to keep the file."]
    stored: Annotated[str, "Name of the file in the quarantine."]
