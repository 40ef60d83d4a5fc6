"""Tests that `--json -` writes the declared JSON, and nothing else, to standard output."""

import typing

from imgpipe.pipeline.json_formats import FORMATS
from tests.command import commands


def test_every_json_has_a_schema_number() -> None:
    with_json = {
        name.removeprefix("imgpipe ")
        for name, command in commands().items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert with_json == set(FORMATS)
    for command, kind in FORMATS.items():
        item = typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind
        for one in typing.get_args(item) or (item,):
            fields = getattr(one, "model_fields", one.__annotations__)
            assert {"schema", "schema_"} & set(fields), command
