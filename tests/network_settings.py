"""Settings of a network and its training, by the plain names of these settings."""

from typing import Any

from imgpipe.models.settings.course import CourseSettings
from imgpipe.models.settings.model import NetworkSettings, TrainSettings
from imgpipe.models.settings.settings import Settings

_SECTIONS = {"model": NetworkSettings, "train": TrainSettings, "course": CourseSettings}


def network_settings(base: Settings | None = None, **values: Any) -> Settings:
    """Return settings with other values, such as `backbone` for `model.backbone`.

    A model may be given for a table of `[course]`, such as `views`. All other settings are those of
    `base`, or else have their defaults.
    """
    axes = values.pop("axes", base.axes if base else "")
    sections: dict[str, dict[str, Any]] = base.model_dump() if base else {}
    for name, value in values.items():
        section = next(key for key, kind in _SECTIONS.items() if name in kind.model_fields)
        plain = value.model_dump() if hasattr(value, "model_dump") else value
        sections.setdefault(section, {})[name] = plain
    return Settings.model_validate(sections).with_axes(axes)
