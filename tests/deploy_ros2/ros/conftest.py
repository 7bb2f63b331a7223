"""A trained policy, and flights with it in processes of their own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCENARIOS = Path(__file__).with_name("scenarios.py")


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that follows references, trained here, for the robot `crazyflie`."""
    # Here, so that nothing is imported where rclpy is missing and every test is skipped.
    from alula.presets import get_preset
    from alula.training.run import train

    folder = tmp_path_factory.mktemp("track")
    train(get_preset("crazyflie-track"), out=folder)
    return folder / "policy.onnx"


@pytest.fixture
def fly(policy: Path) -> Callable:
    """Runs a scenario of scenarios.py and gives its result; everything that it started ends with it."""

    def run(scenario: str, **arguments: object):
        request = json.dumps([scenario, {"policy": str(policy), **arguments}])
        done = subprocess.run(
            [sys.executable, str(SCENARIOS), request], capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr[-8000:]
        sys.stderr.write(done.stderr)
        # Loggers write to the same place.
        return json.loads(done.stdout.splitlines()[-1])

    return run
