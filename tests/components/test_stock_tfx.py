"""The project's components in a stock TFX pipeline, with a `run_fn` of the user."""

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf import json_format

from imgpipe import components
from imgpipe.components.common.artifacts import DataBlessing
from imgpipe.components.common.storage import records
from imgpipe.components.model_pusher.settings import PusherPlan, PushSettings
from imgpipe.models import names
from tests.images import encoded, soft
from tests.models.banks import write_examples

# TFX and ML Metadata warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")

_RUN_FN = '''
"""A user's own training: no bank, no configuration of ours."""
from pathlib import Path
from imgpipe.models.network.classifier import build_classifier
from imgpipe.models.export.saved_model import export
from imgpipe.models.settings.model import ModelSettings

def run_fn(fn_args):
    assert Path(fn_args.custom_config["bank_uri"]).is_dir()
    settings = ModelSettings(backbone="conv_4", weights="none", image_size=16)
    export(build_classifier(None, ["a", "b", "c"], settings), fn_args.serving_model_dir)
'''


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of TFX's components and ours by its LocalDagRunner."""
    from tfx import v1 as tfx
    from tfx.components import BulkInferrer
    from tfx.proto import bulk_inferrer_pb2, pusher_pb2

    folder = tmp_path_factory.mktemp("stock")
    (folder / "own_training.py").write_text(_RUN_FN)
    examples = [{names.IMAGE_BYTES: encoded(soft(seed)), names.LABEL_INDEX: 0} for seed in range(5)]
    splits = [names.VALIDATION] * 2 + [names.TRAIN] * 3
    images = write_examples(folder / "images", zip(splits, examples, strict=True))
    for name in ("data", "model", "infra"):
        (folder / name).mkdir()
    (folder / "data" / "BLESSED").touch()
    (folder / "model" / "BLESSED").touch()
    (folder / "infra" / "INFRA_BLESSED").touch()

    def imported(name: str, uri: Path | str, kind: Any, **given: Any) -> Any:
        node = tfx.dsl.Importer(source_uri=str(uri), artifact_type=kind, **given).with_id(name)
        return node, node.outputs["result"]

    artifacts = tfx.types.standard_artifacts
    split_names = {"properties": {"split_names": records.SPLIT_NAMES_JSON}}
    tf_examples = {"custom_properties": {"payload_format": "FORMAT_TF_EXAMPLE"}}
    blessed = {"custom_properties": {"blessed": 1}}
    imports = {
        "examples": imported("E", images, artifacts.Examples, **split_names, **tf_examples),
        "bank": imported("B", images, artifacts.Examples, **split_names),
        "data_blessing": imported("D", folder / "data", DataBlessing),
        "model_blessing": imported("M", folder / "model", artifacts.ModelBlessing, **blessed),
        "infra_blessing": imported("I", folder / "infra", artifacts.InfraBlessing, **blessed),
    }
    given = {name: channel for name, (_, channel) in imports.items()}
    trainer = components.ImageTrainer(
        examples=given["examples"],
        bank=given["bank"],
        data_blessing=given["data_blessing"],
        run_fn="own_training.run_fn",
    )
    model = trainer.outputs["model"]
    predicted = ("label", "probabilities", "top_k_classes")
    columns = {
        "outputColumns": [{"outputKey": key, "outputColumn": f"served_{key}"} for key in predicted]
    }
    inferrer = BulkInferrer(
        examples=given["examples"],
        model=model,
        data_spec=bulk_inferrer_pb2.DataSpec(example_splits=[names.VALIDATION]),
        model_spec=bulk_inferrer_pb2.ModelSpec(model_signature_name=["serving_examples"]),
        output_example_spec=json_format.ParseDict(
            {
                "outputColumnsSpec": [
                    {"signatureName": "serving_examples", "predictOutput": columns}
                ]
            },
            bulk_inferrer_pb2.OutputExampleSpec(),
        ),
    )

    filesystem = pusher_pb2.PushDestination.Filesystem(base_directory=str(folder / "stock"))
    to_stock = pusher_pb2.PushDestination(filesystem=filesystem)
    blessings = {name: given[name] for name in ("model_blessing", "infra_blessing")}
    stock = tfx.components.Pusher(model=model, push_destination=to_stock, **blessings)
    pushing = PusherPlan(settings=PushSettings(), versions=str(folder / "ours")).to_json()
    ours = components.ModelPusher(model=model, settings=pushing, **blessings)
    pipeline = tfx.dsl.Pipeline(
        "stock",
        str(folder / "artifacts"),
        components=[*(node for node, _ in imports.values()), trainer, inferrer, stock, ours],
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(folder / "metadata.sqlite")
        ),
        # Without the image flag, TFX packs itself into an archive for the workers.
        beam_pipeline_args=["--runner=FnApiRunner", "--sdk_container_image=none"],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        tfx.orchestration.LocalDagRunner().run(pipeline)
    return folder


def test_bulk_inferrer_writes_a_prediction_for_every_example(ran):
    files = list(ran.glob("artifacts/BulkInferrer/output_examples/*/Split-validation/*.gz"))
    raw = tf.data.TFRecordDataset([str(file) for file in files], "GZIP").as_numpy_iterator()
    examples = [tf.train.Example.FromString(record) for record in raw]
    assert len(examples) == 2
    for example in examples:
        probabilities = records.floats(example, "served_probabilities")
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        best = max(range(3), key=probabilities.__getitem__)
        assert records.text(example, "served_label") == "abc"[best]


def test_stock_pusher_pushes_the_exported_model(ran):
    [version] = (ran / "stock").iterdir()
    assert (version / "saved_model.pb").is_file()
    assert (version / "assets" / "vocabulary.txt").read_text().split() == ["a", "b", "c"]


def test_model_pusher_records_what_pusher_records(ran):
    import ml_metadata as mlmd
    from ml_metadata.proto import metadata_store_pb2

    assert (ran / "ours" / "1" / "saved_model.pb").is_file()
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(ran / "metadata.sqlite")
    pushed = mlmd.MetadataStore(config).get_artifacts_by_type("PushedModel")
    by_producer = {Path(artifact.uri).parents[1].name: artifact for artifact in pushed}
    for artifact in by_producer.values():
        files = {path.name for path in Path(artifact.uri).iterdir()}
        assert {"saved_model.pb", "variables", "assets"} <= files
    ours = by_producer["ModelPusher"].custom_properties
    assert set(by_producer["Pusher"].custom_properties) <= set(ours)
    assert ours["pushed"].int_value == 1
    assert ours["pushed_version"].string_value == "1"
    assert ours["pushed_destination"].string_value == str(ran / "ours" / "1")
    assert ours["status"].string_value == "pushed"
