"""Names of the files in the folder of an exported model and of a published version."""

from __future__ import annotations

from typing import Final

#: The graph, without which no server loads a version.
SAVED_MODEL: Final = "saved_model.pb"
#: Folder of the SavedModel in TFX's artifact of a model, as `tfx.utils.path_utils` names it.
SAVED_MODEL_FOLDER: Final = "Format-Serving"
#: Class names, one a line, in label order.
VOCABULARY: Final = "assets/vocabulary.txt"
#: Hash of the model's content, and facts about its signatures. It identifies the model, even if two
#: exports of it differ in their bytes.
MODEL_DIGEST: Final = "assets.extra/model_digest.json"
#: The files of a published version that answer, with digests. Publishing writes it last.
MANIFEST: Final = "manifest.json"
#: Signature of a model that takes encoded images.
SERVING_DEFAULT: Final = "serving_default"
#: Signature that returns the features of encoded images.
FEATURE_VECTORS: Final = "features"
