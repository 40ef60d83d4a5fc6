"""Names of the files in the folder of an exported model and of a published version."""

from __future__ import annotations

from typing import Final

#: The graph, without which no server loads a version.
SAVED_MODEL: Final = "saved_model.pb"
#: Class names, one a line, in label order.
VOCABULARY: Final = "assets/vocabulary.txt"
#: Hash of the model's content, and facts about its signatures. It identifies the model, even if two
#: exports of it differ in their bytes.
MODEL_DIGEST: Final = "assets.extra/model_digest.json"
#: All files of a published version, which publishing writes last.
MANIFEST: Final = "manifest.json"
#: Signature of a model that takes encoded images.
SERVING_DEFAULT: Final = "serving_default"
