"""An output folder of another version of imgpipe is refused by runs; its versions are served."""

import json
import re
from pathlib import Path

import pytest

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.commands import rollback
from imgpipe.pipeline.output import lookup
from imgpipe.pipeline.output.output_folder import OutputFolder
from tests.command import ran
from tests.pipeline import past_runs

_TOLD = "made by another version of imgpipe: choose a new folder with --out; its published"


def test_runs_are_refused_and_versions_are_served_and_rolled_back_to(tmp_path: Path):
    past_runs.publish_two(tmp_path)
    folder = past_runs.leave(tmp_path, "20250101-100000", version=2)
    (folder / "identity.json").write_text(json.dumps({"layout": 1}))
    told = f"^the runs in {re.escape(str(tmp_path))} were {_TOLD}"
    with pytest.raises(ResourceError, match=told), OutputFolder(tmp_path).begin():
        pass
    with pytest.raises(ResourceError, match=_TOLD):
        lookup.run(folder)
    assert "damaged" in ran("runs", tmp_path).stdout
    assert lookup.model(tmp_path).version == 2
    rollback.rollback(tmp_path, 1)
    assert lookup.model(tmp_path).version == 3
