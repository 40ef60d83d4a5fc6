"""The base class of all records, and parts that several of them share."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

#: No count is beyond the integers that a float represents exactly, in which JSON is often read.
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class Record(BaseModel):
    """An object of JSON. Fields that it does not declare, as of a later release, are ignored."""

    model_config = ConfigDict(frozen=True, protected_namespaces=(), validate_by_name=True)

    @classmethod
    def read(cls, content: Any) -> Self:
        """Check parsed JSON.

        Raises:
            ValueError: It is no such record; the message says what is wrong with its first field.
        """
        try:
            return cls.model_validate(content, strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, found["loc"])) or "the file"
            raise ValueError(f"{where}: {found['msg'][:1].lower()}{found['msg'][1:]}") from None

    def dump(self) -> dict[str, Any]:
        """Return the object for `json.dumps`.

        Pydantic's own JSON refuses file names that are not UTF-8, and makes null of NaN.
        """
        return self.model_dump(by_alias=True)


class Document(Record):
    """What one command writes."""

    schema_: Annotated[int, "Version of this format, 1."] = Field(1, alias="schema")


class ClassMetrics(Record):
    """Metrics of one class."""

    count: Annotated[int, "Number of images with this label."]
    recall: Annotated[float | None, "Share of these images that are predicted correctly."]
    precision: Annotated[float | None, "Share of the predictions of this class that are correct."]
    f1: Annotated[float, "Harmonic mean of recall and precision; 0 if one is missing."]


class Probability(Record):
    """A class with its probability."""

    label: Annotated[str, "Name of the class."]
    probability: Annotated[float, "Probability of the class."]
