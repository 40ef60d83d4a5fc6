"""The model card of a published version: its text, and that it changes nothing else."""

import yaml

from imgpipe.components.common.storage import manifest
from imgpipe.components.model_pusher import push as pusher
from imgpipe.components.model_pusher.push import Candidate, model_card
from tests.run_facts import decided_by, decision

FACTS = {
    "name": "hands",
    "vocabulary": ["paper", "<b>rock</b>\n# title", "caf\udce9"],
    "backbone": "efficientnet_lite0",
    "image_size": 224,
    "fingerprint": "5e1f",
    "baseline_version": 3,
}
DECISION = decision(decided_by(57, 60, "validation"))


def test_the_text_names_the_classes_the_metrics_and_the_origin():
    text = model_card(FACTS, DECISION)
    _, head, _ = text.split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "image-classification"
    for words in (
        "# hands",
        "- paper\n",
        "This accuracy decided whether the model was published. The exported model itself was",
        "- Backbone: efficientnet\\_lite0",
        "- Image size: 224 × 224 pixels",
        "- Fingerprint of the data: 5e1f",
        "- Parent version: 3",
    ):
        assert words in text
    assert "<b>" not in text and "\n# title" not in text
    text.encode("utf-8")


def test_the_card_states_the_accuracy_over_folds_if_they_decided():
    text = model_card(FACTS, decision(decided_by(1080, 1112)))
    assert "Cross-validation accuracy 0.948. This accuracy decided whether the model was" in text
    assert "classified by a model that was trained in the same way without it" in text
    text = model_card(FACTS, DECISION)
    assert "encoded images of the validation split" in text and "without it" not in text


def test_every_pushed_version_has_a_card_that_is_not_part_of_the_identity(tmp_path):
    model = tmp_path / "export"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"graph")
    gates = {"model": True, "serving": True}

    def push(decision):
        candidate = Candidate(model, FACTS, decision=decision)
        return pusher.push(tmp_path / "model", candidate, gates, 9)

    assert push(DECISION)["status"] == "pushed"
    version = manifest.latest(tmp_path / "model")
    card = version.path / manifest.CARD
    assert card.read_text(encoding="utf-8") == model_card(FACTS, DECISION)
    assert push(DECISION | {"threshold": 0.94})["status"] == "unchanged"
    assert version.identity == manifest.identity(manifest.describe(model))
