"""What all tests share: a quiet TensorFlow and the way to the real images."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# A shell starts background jobs with Ctrl-C ignored, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photographs beside the repository; the test skips where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real photographs in {SHARED}")
    return SHARED
