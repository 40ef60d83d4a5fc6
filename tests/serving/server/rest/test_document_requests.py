"""The requests in docs/serving.md, run in each language with the tool that people have for it."""

import re
import shutil

import pytest

from tests import python_program
from tests.conftest import REPOSITORY
from tests.document_blocks import blocks
from tests.serving.quick import photograph

_ADDRESS = "http://localhost:8501"
#: By language: the file of the program, and the command that runs it.
_PROGRAMS = {
    "sh": ("classify.sh", ["sh", "classify.sh"]),
    "python": ("classify.py", ["python3", "classify.py"]),
    "javascript": ("classify.mjs", ["node", "classify.mjs"]),
    "java": ("Classify.java", ["java", "Classify.java"]),
    "go": ("classify.go", ["go", "run", "classify.go"]),
}
_NEEDED = {"sh": ["curl", "base64"], "go": ["go"], "java": ["javac"]}


def _skip_without_tools(language: str) -> None:
    _, command = _PROGRAMS[language]
    for tool in [command[0], *_NEEDED.get(language, [])]:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    if language == "javascript":
        major = re.findall(r"\d+", python_program.ran("node", "--version").stdout)[0]
        if int(major) < 18:
            pytest.skip("needs Node 18, which has fetch")


@pytest.mark.parametrize("language", _PROGRAMS)
def test_the_request_of_the_document_is_answered(classifier, tmp_path, language):
    _skip_without_tools(language)
    page = blocks(REPOSITORY / "docs" / "serving.md")
    [program] = [
        block.text for block in page if block.language == language and _ADDRESS in block.text
    ]
    file, command = _PROGRAMS[language]
    (tmp_path / file).write_text(program.replace(_ADDRESS, f"http://127.0.0.1:{classifier.port}"))
    (tmp_path / "picture.jpg").write_bytes(photograph(1))
    seen = len(classifier.calls)
    go = {"GOTOOLCHAIN": "local", "GOWORK": "off", "GO111MODULE": "auto"}
    done = python_program.ran(*command, cwd=tmp_path, **go)
    assert re.search("paper|rock|scissors", done.stdout), done.stdout + done.stderr
    [call] = classifier.calls[seen:]
    assert (call.code.name, call.rows) == ("OK", 1)
