"""The fault matrix: what the wire shows after each fault of a flying multirotor (docs/faults.md)."""

from pathlib import Path
from runpy import run_path

import pytest

pytest.importorskip("rclpy")
FAULTS = run_path(str(Path(__file__).with_name("faults.py")))["FAULTS"]


def marked(fault):
    return pytest.param(fault.name, id=fault.name, marks=() if fault.quick else pytest.mark.slow)


@pytest.mark.parametrize("name", [marked(f) for f in FAULTS])
def test_fault(name, fly):
    (outcome,) = fly("fault", name=name)
    assert outcome["wrong"] == [], outcome


def test_there_are_enough_and_they_differ():
    assert len({f.name for f in FAULTS}) == len(FAULTS) >= 40


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_policy_node_killed_at_any_instant(seed, fly):
    # Start-up and configuration take about 1.5 s, the flight goes on, a landing takes 3 s.
    land = seed % 3 == 0
    seen = fly("killed", seed=seed, latest=3.0 if land else 2.5, land=land)
    assert seen["wrong"] == []
    if seen["robot"] == "held":
        assert not seen["commands"], seen
        return
    assert seen["robot"] in ("motors off, on the ground", "on the ground"), seen
    assert seen["touchdown"] is not None
    # Nothing was in the air for longer than a message takes.
    assert seen["last_command"] is None or seen["last_command"] < 0.05
    # 0.2 s in the robot's own time. A process that dies while it holds a lock of the middleware's shared memory
    # holds up the others on the same computer: 3 s were seen.
    assert seen["off"] is None or seen["off"] < 0.2 + 5.0
