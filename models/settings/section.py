"""What all sections of the settings are made of.

A module of settings imports neither TensorFlow nor TFX, because the command line reads the
configuration while these are loading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

#: Marks of settings that are paths on this machine: of files that are read, of folders that are
#: written; and of places of images, which may also be addresses.
INPUT = "input"
OUTPUT = "output"
PLACE = "place"
#: Value of a number of folds or views that leaves it to the run.
AUTOMATIC: Final = -1
#: A share of a whole of which something must remain.
ShareBelowOne = Annotated[float, Field(ge=0, le=0.99)]
#: A setting with an unknown name is an error, and defaults are checked against the limits too.
STRICT: Final = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)
#: Name of the file with the texts, which the component Plan writes.
PLAN_FILE = "plan.json"
LARGEST = 2**63 - 1  # integer that a parameter of a component can be: they are stored as int64


class SettingsSection(BaseModel):
    """Base class of the sections: instances are frozen, and unknown keys are errors."""

    model_config = ConfigDict(**STRICT, frozen=True)


def declared(section: Any) -> dict[str, FieldInfo]:
    """Return the settings of a section by name, in the order of their declaration.

    Args:
        section: A class of settings or an instance of one; anything else has no settings.
    """
    fields: dict[str, FieldInfo] = getattr(section, "__pydantic_fields__", {})
    return fields


def describe(problem: ErrorDetails, most: int | None = None) -> str:
    """Describe a wrong value: its name if it has one, what was expected and what was received.

    Args:
        problem: What pydantic found.
        most: Largest number of characters of the received value; None for all of them.
    """
    key = ".".join(str(part) for part in problem["loc"])
    about = f"{key}: " if key else ""
    text = problem["msg"].removeprefix("Value error, ")  # pydantic's heading of our own errors
    if problem["type"] == "tuple_type":
        text = 'expected a list such as ["a", "b"]; a shell needs quotes around it: \'["a", "b"]\''
    text = f"{about}{text[:1].lower()}{text[1:]}"
    if problem["type"] == "value_error":  # our own messages name what was received already
        return text
    given = repr(problem["input"])
    shown = given[:most]
    more = "" if shown == given else "…"
    return f"{text}. Received: {shown}{more}{_as_a_share(problem)}"


def _as_a_share(problem: ErrorDetails) -> str:
    """Ask whether a percentage was meant, where a share of at most 1 is expected."""
    value = problem["input"]
    is_share = problem["type"] == "less_than_equal" and problem["ctx"]["le"] == 1
    if not is_share or not isinstance(value, int | float) or not 1 < value <= 100:
        return ""
    return f" (did you mean {value / 100:g}?)"


def flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables with their dotted keys, such as `("course.epochs", 30)`."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def fields(section: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield all settings below a section with their dotted keys, in the order of declaration."""
    for name, field in declared(section).items():
        if declared(field.annotation):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def marked(section: type[SettingsSection], *marks: str) -> list[str]:
    """Return the keys of settings that are paths with one of some marks, such as `INPUT`."""
    return [key for key, field in fields(section) if set(marks) & set(map(str, field.metadata))]


def changed(settings: SettingsSection) -> dict[str, object]:
    """Return the settings that differ from their defaults, except folders of outputs."""
    differing = flat(settings.model_dump(mode="json", exclude_defaults=True))
    outputs = marked(type(settings), OUTPUT)
    return {name: value for name, value in differing if name not in outputs}
