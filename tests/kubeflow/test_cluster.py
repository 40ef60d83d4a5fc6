"""A whole run of the compiled pipeline as Kubeflow Pipelines runs it, a process for each task.

What needs a real cluster, such as the cache, other users and cancelled runs, is in `tests/cluster`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgpipe.components.common.storage import manifest
from imgpipe.models.files.described_files import version_damage
from imgpipe.pipeline.commands import review
from imgpipe.pipeline.review import web
from tests import python_program
from tests.command import answered, ran
from tests.e2e.case import Case
from tests.kubeflow.cluster import Cluster
from tests.kubeflow.pipelines import compiled, draw

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

#: The validation split has a dozen images; the published model may misclassify some of them.
_LENIENT = "evaluate.max_drop=0.9"


def _compiled(photos: Path, mounted: Path, *settings: str) -> Cluster:
    """Compile the pipeline of the images; its outputs are in `mounted`, as on a volume."""
    (mounted / "out").mkdir(parents=True)
    places = {"results": mounted, "data": photos}
    volumes = ", ".join(f"{{claim = '{claim}', path = '{path}'}}" for claim, path in places.items())
    given = ('run.out="out"', _LENIENT, *settings)
    file = compiled(photos, mounted / "pipeline.yaml", "minio://bucket/root", volumes, *given)
    spec, _ = yaml.safe_load_all(file.read_text())
    return Cluster(spec, mounted)


def test_a_run_on_a_cluster_pushes_the_model_of_a_local_run(tmp_path: Path):
    photos, mounted = draw(tmp_path / "photos"), tmp_path / "results"
    cluster = _compiled(photos, mounted)
    cluster.run()
    result = cluster.result()
    # The folder of the run has the verdict.
    [told] = (mounted / "out" / "runs").glob("*/result.json")
    assert json.loads(told.read_text())["push"]["status"] == "pushed"
    # A command: in this process, other tests may have chosen TensorFlow's threads and kernels.
    config = Case(photos, tmp_path / "local").config_file(tmp_path)
    command = (sys.executable, "-m", "imgpipe", "run", "--config", config, "--set", _LENIENT)
    local = json.loads(python_program.ran(*command, "--json", "-").stdout)
    places = (mounted / "out" / "model", tmp_path / "local" / "model")
    [theirs], [ours] = (manifest.versions(place) for place in places)
    assert version_damage(theirs.folder, "all") == ""
    assert theirs.identity == ours.identity, "the weights, and so the data, of a local run"
    assert theirs.run_key == ours.run_key
    assert {key: result["gate"][key] for key in local["gate"]} == local["gate"]
    assert result["data"]["by_split"] == local["data"]["by_split"]
    evaluation = cluster.outputs["Evaluation"]["ImageEvaluator_evaluation"]["uri"]
    assert (cluster.stored(evaluation) / "eval_config.json").is_file(), "the result of TFMA"
    _require_found(mounted / "out", result, tmp_path / "local" / local["folder"])


def _require_found(out: Path, result: dict[str, Any], local: Path) -> None:
    """Check that commands find the run of a folder with all that they read of it."""
    [row] = answered("runs", out)["runs"]
    assert (row["status"], row["push"]["version"]) == ("blessed", "1")
    assert f"{out / row['folder'] / 'report.html'}" in ran("open", out).stdout
    compared = answered("compare", out / row["folder"], local)
    assert compared["images"]["new"] == compared["images"]["gone"] == 0
    paired = compared["paired"].values()
    assert paired and all(pair["only_a"] == pair["only_b"] == 0 for pair in paired)
    prepared = review.prepare(review.run_to_review(out), None)
    assert web.describe(prepared)["kinds"]["all"] == result["data"]["in"]
    assert prepared.decisions.file == out / "overrides.toml"


def test_a_run_whose_data_are_refused_is_listed_and_can_be_reviewed(tmp_path: Path):
    cluster = _compiled(draw(tmp_path / "photos"), tmp_path / "results", "gate.min_train=500")
    with pytest.raises(AssertionError, match=r"^Data 4: (?s:.*)500"):
        cluster.run()
    out = tmp_path / "results" / "out"
    [row] = answered("runs", out)["runs"]
    assert row["status"] == "refused" and "500" in row["verdict"]
    assert review.run_to_review(out).folder == out / row["folder"]
    assert web.describe(review.prepare(review.run_to_review(out), None))["kinds"]["rejected"]


def test_a_task_that_fails_says_why_in_its_log_and_in_the_folder_of_the_run(tmp_path: Path):
    moved = tmp_path / "photos"  # does not exist, which the compiler cannot know
    with pytest.raises(AssertionError, match=rf"^Plan 2: (?s:.*){moved}"):
        _compiled(moved, tmp_path / "results").run()
    [file] = (tmp_path / "results" / "out").glob("runs/*/failure.json")
    told = json.loads(file.read_text())
    assert (told["component"], told["exit_code"]) == ("Plan", 2) and str(moved) in told["cause"]
