"""What answers quickly, or is small, imports none of the large libraries."""

import pytest

from tests import python_program

_LARGE = {"tensorflow", "tfx", "keras", "apache_beam"}
_FINGERPRINTS = """
from imgpipe.models import backbones
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.settings.settings import Settings
for name in backbones.registry.names():
    backbones.Backbone(name, weights="none").key()
FeatureExtractor(Settings(), "float32").key(1)
"""


@pytest.mark.parametrize(
    ("program", "large"),
    [
        pytest.param(
            "import imgpipe.serving.client",
            {*_LARGE, "tensorflow_serving", "ml_dtypes"},
            id="the client",
        ),
        pytest.param(
            "import imgpipe.serving.server.model_server\n"
            "from imgpipe.serving.server import settings\n"
            "settings.flags()",
            {"tensorflow"},
            id="the server before it serves",
        ),
        pytest.param(
            "import imgpipe.components, imgpipe.pipeline.execution.pipeline_run\n"
            "import imgpipe.pipeline.review.web",
            _LARGE,
            id="the components, a run and a review",
        ),
        pytest.param(
            "import imgpipe.components.report.page, imgpipe.components.run_record.verdict",
            {"tensorflow", "tfx", "matplotlib", "jinja2"},
            id="the report",
        ),
        pytest.param(_FINGERPRINTS, {"tensorflow", "keras", "h5py"}, id="fingerprints"),
    ],
)
def test_no_large_library_is_imported(program: str, large: set[str]) -> None:
    said = python_program.printed(f"import sys\n{program}\nprint(*sys.modules)")
    assert not large & set(said.split())
