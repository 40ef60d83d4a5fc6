"""Follows the advice of a message: reads the source that each of its commands names."""

import json
import re
import shlex

from imgpipe.components.example_gen.sources import open_source
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings


def commands(message):
    """Return source and options of each command in a message: [(source, {name: value})]."""
    found = []
    for command in re.findall(r"imgpipe check ([^\n]+)", str(message)):
        where, *sets = shlex.split(command)
        pairs = [setting.removeprefix("data.").split("=", 1) for setting in sets[1::2]]
        found.append((where, {name: value(text) for name, text in pairs}))
    return found


def value(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def scans(message, **options):
    """Return the scan of each command in a message, or of those of a command that asks further."""
    found = []
    for where, given in commands(message):
        source = open_source(where, DataSettings(**{**options, **given}))
        try:
            found.append(source.listing())
        except ConfigError as further:
            if not commands(further):
                raise
            found += scans(further, **options)
    return found
