"""Follows the advice of a message: reads the source that each of its commands names."""

import json
import re
import shlex

from imgpipe.components.example_gen.sources import read_source
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


def read(message):
    """Return the images that each command in a message reads."""
    return [read_source(where, DataSettings(**given)) for where, given in commands(message)]
