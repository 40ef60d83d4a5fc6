"""The base class of records, which are read again from JSON, and the check of what is read."""

from __future__ import annotations

from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from imgpipe.models.files.json_object import SCHEMA, SchemaNumber

#: No count is beyond the integers that a float represents exactly, in which JSON is often read.
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
_Content = TypeVar("_Content")


def checked(format_: TypeAdapter[_Content], content: object) -> _Content:
    """Check parsed JSON.

    Args:
        format_: The format that it must have. Fields that it does not declare are left out.
        content: The parsed JSON.

    Raises:
        ValueError: It has another format; the message says what is wrong with its first field.
    """
    try:
        return format_.validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


class Record(BaseModel):
    """An object of JSON. Fields that it does not declare, as of a later release, are ignored."""

    model_config = ConfigDict(frozen=True, protected_namespaces=(), validate_by_name=True)

    @classmethod
    def read(cls, content: object) -> Self:
        """Check parsed JSON.

        Raises:
            ValueError: It is no such record; the message says what is wrong with its first field.
        """
        return checked(TypeAdapter(cls), content)

    def dump(self) -> dict[str, Any]:
        """Return the object for `json.dumps`.

        Pydantic's own JSON refuses file names that are not UTF-8, and makes null of NaN.
        """
        return self.model_dump(by_alias=True)


class Document(Record):
    """What one command writes."""

    schema_: SchemaNumber = Field(SCHEMA, alias="schema")
