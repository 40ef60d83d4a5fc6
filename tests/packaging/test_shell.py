"""What a person runs in a shell needs only what a Mac has: make 3.81 and the tools of BSD."""

import re

import pytest

from tests.conftest import REPOSITORY

#: Only GNU's tools have these, or take them in this way.
_GNU = re.compile(
    r"\b(timeout|nproc|tac|sha256sum|realpath|setsid)\s|readlink -f|sed -i(?! '')"
    r"|grep -\w*P|stat -c"
    r"|date -d|find [^|;]*-printf|xargs -\w*r|sort -V|cp -\w*a|mktemp --|ls --|--no-run-if-empty"
)
#: Of GNU make 4, or 3.82.
_MAKE = re.compile(r"\.ONESHELL|\$\(file |!=|\$\(guile|&:|\$\(let |\$\(intcmp ")


@pytest.mark.parametrize("name", ["Makefile", ".ci/run"])
def test_the_commands_are_those_of_a_mac(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    found = [*_GNU.finditer(text), *(_MAKE.finditer(text) if name == "Makefile" else ())]
    assert [match[0] for match in found] == []
