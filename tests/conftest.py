"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real flight logs: $ALULA_DATA, else ../shared/data; skips where neither is."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("ALULA_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real flight logs not found in {folder}; set ALULA_DATA")
    return folder
