"""Checks the accessibility of a page with axe-core, whose rules the browsers' own checks use."""

import json
from typing import Any

import pytest

from tests.browser import Page
from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / ".tools/axe/node_modules/axe-core/axe.min.js"
needed = pytest.mark.skipif(
    not SCRIPT.is_file(),
    reason="axe-core is not there: npm install --prefix .tools/axe --no-save axe-core@4",
)


def violations(page: Page) -> list[str]:
    """Return the violated rules of the page as it is now, with the elements that violate them.

    The security policy of the page does not apply to the protocol by which the script comes.
    """
    page.run(SCRIPT.read_text(encoding="utf-8") + "; true")
    found: list[dict[str, Any]] = json.loads(
        page.run(
            "axe.run({resultTypes: ['violations']}).then((found) => JSON.stringify(found.violations"
            ".map(({id, help, nodes}) => ({id, help, nodes: nodes.map((node) => node.target.join(' "
            "') + ': ' + node.failureSummary)}))))"
        )
    )
    return [f"{one['id']} ({one['help']}): {node}" for one in found for node in one["nodes"]]
