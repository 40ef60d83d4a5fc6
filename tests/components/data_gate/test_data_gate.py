"""The components from ImageExampleGen to DataGate in TFX's local runner pass or refuse data."""

import json
import shutil

import pytest

from imgpipe import components
from imgpipe.components.data_gate import accepted
from imgpipe.components.example_gen.sources import read_source
from imgpipe.components.model_pusher import versions
from imgpipe.models.errors import DataRefused, ResourceError
from imgpipe.models.settings.data import DataSettings, GateSettings
from imgpipe.models.settings.given import READS, Facts, of_component
from imgpipe.models.settings.places import GATE_FILE
from imgpipe.models.settings.running import RunSettings
from imgpipe.models.settings.settings import Settings

# TFX, TFDV and ML Metadata warn about their own dependencies, which cannot be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")


_LOOSE = {"min_train": 1, "min_validation": 1}


@pytest.fixture(scope="module")
def tfx():
    from tfx import v1

    return v1


@pytest.fixture
def run(tmp_path, tfx):
    """Return a function that runs the components on a folder, with settings of `[gate]`."""
    out = tmp_path / "out"
    schema = out / "schema/schema.pbtxt"
    schema.parent.mkdir(parents=True)

    def make(folder, accept_changes=0, last=None, **section):
        scan = read_source(str(folder)).hashed()
        gate = GateSettings(**{**_LOOSE, **section})
        judged_by = accepted.parameters(schema, scan.fingerprint, gate, last)
        judged_by["accept_changes"] |= accept_changes
        facts = Facts(
            vocabulary=scan.classes,
            fingerprint=scan.fingerprint,
            data_key=scan.fingerprint,
            **judged_by,
        )
        settings = Settings(
            data=DataSettings(source=str(folder)),
            run=RunSettings(out=str(out)),
            gate=gate,
        )
        texts = {name: of_component(name, settings, facts) for name in READS}
        read = components.ImageExampleGen(settings=texts["ImageExampleGen"])
        judged = components.ImageFilter(
            ingested=read.outputs["examples"], settings=texts["ImageFilter"]
        )
        statistics = components.StatisticsGen(quarantine=judged.outputs["quarantine"])
        known = components.SchemaGen(
            statistics=statistics.outputs["statistics"], settings=texts["SchemaGen"]
        )
        anomalies = tfx.components.ExampleValidator(
            statistics=statistics.outputs["statistics"], schema=known.outputs["schema"]
        )
        gate_node = components.DataGate(
            statistics=statistics.outputs["statistics"],
            schema=known.outputs["schema"],
            anomalies=anomalies.outputs["anomalies"],
            quarantine=judged.outputs["quarantine"],
            settings=texts["DataGate"],
        )
        connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(tmp_path / "metadata.db")
        )
        pipeline = tfx.dsl.Pipeline(
            "data",
            str(tmp_path / "artifacts"),
            components=[read, judged, statistics, known, anomalies, gate_node],
            metadata_connection_config=connection,
            # The image flag is ignored by this runner; without it TFX packs itself up each time.
            beam_pipeline_args=["--runner=FnApiRunner", "--sdk_container_image=none"],
            enable_cache=True,
        )
        tfx.orchestration.LocalDagRunner().run(pipeline)

    make.schema = schema
    make.decision = out / GATE_FILE
    make.blessings = lambda: sorted(tmp_path.glob("artifacts/DataGate/blessing/*/BLESSED"))
    return make


def test_the_first_blessed_data_sets_the_schema_for_later_data(photos, encode, run):
    folder = photos({"cat": 25, "dog": 25, "dog/empty.jpg": b""})
    minimum = {"min_train": 10, "min_validation": 1}
    run(folder, **minimum)
    assert len(run.blessings()) == 1
    assert json.loads(run.decision.read_text())["accepted_schema"] == str(run.schema)
    before = run.schema.read_text()
    assert "min_domain_mass: 0.5" in before

    # Images of another size and the first PNG files are no anomaly; a new class is one.
    for seed in range(900, 910):
        (folder / f"cat/{seed}.png").write_bytes(encode("PNG", size=(500, 99), seed=seed))
    (folder / "owl").mkdir()
    for seed in range(25):
        (folder / f"owl/{seed}.jpg").write_bytes(encode(seed=1000 + seed))
    with pytest.raises(DataRefused, match=r"new class: .*found owl; .*--accept"):
        run(folder, **minimum)
    decision = json.loads(run.decision.read_text())
    assert not decision["blessed"]
    assert {reason["title"] for reason in decision["reasons"]} == {"new class"}
    assert len(run.blessings()) == 1 and run.schema.read_text() == before

    run(folder, accept_changes=1, **minimum)
    assert len(run.blessings()) == 2 and '"owl"' in run.schema.read_text()
    assert "min_domain_mass: 0.5" in run.schema.read_text(), "the limits are kept"
    (warning,) = json.loads(run.decision.read_text())["warnings"]
    assert warning["reason"] == "new_class"

    (folder / "owl").rename(folder.parent / "owl")
    with pytest.raises(DataRefused, match=r"lost class 'owl': .* \(25\), found none; .*--accept"):
        run(folder, **minimum)
    assert accepted.classes(run.schema)["owl"] == 25
    run(folder, accept_changes=1, **minimum)
    assert "owl" not in accepted.classes(run.schema) and '"owl"' not in run.schema.read_text()


def test_a_version_that_is_gone_ends_the_run(photos, tmp_path, run):
    (tmp_path / "export").mkdir()
    (tmp_path / "export/saved_model.pb").write_text("model")
    last = versions.publish(tmp_path / "out/model", {"": tmp_path / "export"}, {})
    folder = photos({"cat": 25, "dog": 25})
    run(folder, last=last)
    assert len(run.blessings()) == 1, "a version without statistics is not compared"
    shutil.rmtree(last.folder)
    next(folder.glob("cat/*")).unlink()
    with pytest.raises(ResourceError, match=r"version 1 in .* was the last blessed model"):
        run(folder, last=last)


def test_the_schema_of_no_image_has_no_feature(tmp_path, tfx):
    from tensorflow_metadata.proto.v0 import statistics_pb2

    from imgpipe.components.data_gate.data_gate import infer_schema

    with pytest.raises(ResourceError, match=r"there are no statistics in .*Run again"):
        infer_schema(str(tmp_path))
    empty = statistics_pb2.DatasetFeatureStatisticsList()
    empty.datasets.add(num_examples=0)
    (tmp_path / "Split-train").mkdir()
    (tmp_path / "Split-train/FeatureStats.pb").write_bytes(empty.SerializeToString())
    assert not infer_schema(str(tmp_path)).feature
