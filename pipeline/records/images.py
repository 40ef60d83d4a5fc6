"""What the commands about images write."""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.image_filter.check import Found, Rejected
from imgpipe.components.image_filter.near_groups import NearGroup
from imgpipe.components.image_filter.quarantine import Summary
from imgpipe.pipeline.records.base import Document


class Files(TypedDict):
    """Files by what happens to them."""

    rejected: Annotated[list[Rejected], "Files that a run would put into quarantine."]
    repaired: Annotated[list[Found], "Files that a run would re-encode."]
    warned: Annotated[list[Found], "Kept files with a warning."]
    reviewed: Annotated[list[Found], "Files with an override."]


class Check(Summary):
    """What a run would reject, repair and warn about."""

    schema: Annotated[int, "Version of this format, 1."]
    source: Annotated[str, "The source of the images."]
    classes: Annotated[list[str], "Class names."]
    refused: Annotated[bool, "Whether a run would refuse the data (exit code 4)."]
    verdict: Annotated[str, "The decision as a sentence."]
    reasons: Annotated[list[str], "Why a run would refuse the data."]
    thin: Annotated[list[str], "The reasons that are about classes with too few images."]
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


class QuarantineRow(Document):
    """One object for each file, on a line of its own. Empty fields are left out."""

    path: Annotated[str, "Path in the source."]
    image_hash: Annotated[str, "SHA-256 of the file."] = ""
    reason: Annotated[str, "Name of the check."]
    detail: Annotated[str, "What was found."] = ""
    label: Annotated[str, "Label of the file."] = ""
    split: Annotated[str, "Split of the file."] = ""
    override: Annotated[str, "What to do to keep the file."] = ""
    stored: Annotated[str, "Name of the file in the quarantine."] = ""
