"""Small exported policies for the tests of single steps, compiled once."""

from pathlib import Path
from runpy import run_path

import pytest

stepper = run_path(str(Path(__file__).with_name("stepper.py")))


@pytest.fixture(scope="session")
def echo_library(tmp_path_factory):
    """Its action is its first input, squashed."""
    return stepper["made"](tmp_path_factory, stepper["echo"]())


@pytest.fixture(scope="session")
def recorder_library(tmp_path_factory):
    """Its action is what `recorded` says of its histories."""
    return stepper["made"](tmp_path_factory, stepper["recorder"]())


@pytest.fixture
def robot(echo_library):
    """A fresh robot that echoes."""
    return echo_library.robot()


@pytest.fixture
def recording(recorder_library):
    """A fresh robot that records."""
    return recorder_library.robot()
