"""What the commands about servers and their requests write."""

from __future__ import annotations

from typing import Annotated, Literal

from imgpipe.pipeline.records.base import Document, Record


class _Line(Document):
    time: Annotated[str, "Time in UTC, ISO 8601."]
    event: Annotated[
        Literal["listening", "version", "stopped"],
        "`listening` first, `version` whenever a version has entered another state, and `stopped` "
        "at the end.",
    ]


class ServerLine(_Line):
    """One object a line for each change of the server. Each event has fields of its own."""

    grpc: Annotated[str | None, "`listening`: HOST:PORT of gRPC; null without one."] = None
    rest: Annotated[str | None, "`listening`: URL of the REST interface; null without one."] = None
    page: Annotated[str | None, "`listening`: URL of the page; null without one."] = None
    models: Annotated[
        dict[str, str] | None, "`listening`: folders of versions by name of the model."
    ] = None
    model: Annotated[str | None, "`version`: name of the model."] = None
    version: Annotated[int | None, "`version`: number of the version."] = None
    state: Annotated[
        Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"] | None,
        "`version`: the state of the version, in TensorFlow Serving's words; `AVAILABLE` means "
        "that it answers requests.",
    ] = None
    error: Annotated[
        str | None, "`version`: why the version is not available; null without an error."
    ] = None
    finished: Annotated[bool | None, "`stopped`: whether all requests had been answered."] = None


class BrokenFile(Record):
    """A file of the log that breaks off."""

    file: Annotated[str, "Path of the file."]
    records: Annotated[int, "Number of records before the error."]
    error: Annotated[str, "The error."]


class ReadLog(Record):
    """The request log."""

    files: Annotated[list[str], "Files of the log."]
    records: Annotated[int, "Number of records in the files."]
    answers: Annotated[int, "Number of answers in the records."]
    pictures: Annotated[int, "Number of images in the records."]
    skipped: Annotated[dict[str, int], "Number of records that were skipped, by reason."]
    broken: Annotated[list[BrokenFile], "Files that break off."]


class Distance(Record):
    """The comparison of one property."""

    subject: Annotated[
        Literal["pictures", "predictions"],
        "What has the property, such as the images or the predictions.",
    ]
    feature: Annotated[str, "The property."]
    reference: Annotated[str, "The data that the requests are compared with."]
    was: Annotated[str, "Value of the property in that data."]
    now: Annotated[str, "Value of the property in the requests."]
    measure: Annotated[str, "Kind of distance."]
    distance: Annotated[float, "The distance."]
    limit: Annotated[
        float | None, "Largest distance that is not drift; null if the property is only shown."
    ]
    over: Annotated[bool, "Whether the distance is over the limit."]


class AskedVersion(Record):
    """The requests to one version."""

    version: Annotated[int, "Number of the version."]
    answers: Annotated[int, "Number of answers of the version."]
    different_pictures: Annotated[int, "Number of different images in the requests."]
    first: Annotated[str, "Time of the first request."]
    last: Annotated[str, "Time of the last request."]
    labels: Annotated[dict[str, int], "Number of answers by label."]
    unknown: Annotated[float, "Share of answers that are unknown."]
    unknown_on_validation: Annotated[
        float | None, "Share of answers that are unknown on the validation split."
    ]
    comparisons: Annotated[list[Distance], "Comparisons of all properties."]
    notes: Annotated[list[str], "What was not compared, and why."]


class UndecodableImage(Record):
    """An image of the log that cannot be decoded."""

    picture: Annotated[str, "File and record of the log that hold the image."]
    error: Annotated[str, "The error."]


class Drift(Document):
    """The comparison of requests with the training data."""

    drift: Annotated[
        bool | None, "Whether there is drift; null if there were too few requests to compare."
    ]
    verdict: Annotated[str, "The decision as a sentence."]
    log: Annotated[ReadLog, "The request log."]
    versions: Annotated[list[AskedVersion], "The versions that answered."]
    versions_gone: Annotated[list[int], "Versions that no longer exist; they are not compared."]
    measured: Annotated[int, "Number of images that were measured."]
    undecodable: Annotated[int, "Number of images that cannot be decoded."]
    undecodable_first: Annotated[list[UndecodableImage], "The first images that cannot be decoded."]
