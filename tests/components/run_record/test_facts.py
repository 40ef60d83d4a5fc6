"""The facts of a run, read from the artifacts that `collect.REPORTED` names."""

from __future__ import annotations

import json
from pathlib import Path

from imgpipe.components.run_record import facts
from imgpipe.components.run_record.collect import REPORTED


def test_the_file_of_each_artifact_is_a_fact_and_none_where_it_is_missing(tmp_path: Path):
    # The bank is left out, because its facts stand for the features beside them.
    rows = {name: row for name, row in REPORTED.items() if row.file and name != "bank"}
    for name, row in rows.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / row.file).write_text(json.dumps({"of": name}))
    settings = {"vocabulary": ["cat", "dog"]}
    found = facts.collect({name: str(tmp_path / name) for name in rows}, settings)
    assert {name: found[row.fact or name] for name, row in rows.items()} == {
        name: {"of": name} for name in rows
    }
    assert found["training"] == {"of": "model_run"}
    assert found["gate"] == {"of": "model_blessing"}
    nothing = facts.collect({}, settings)
    assert [nothing[row.fact or name] for name, row in rows.items()] == [None] * len(rows)
