"""The adapters of Isaac on fakes of its interfaces, in processes of their own: the whole way of `alula check-sim`.

The fakes have the joints in another order, environments away from the world's origin and quaternions as Isaac has them,
and are strict where its documentation is. They say nothing of what the real ones do.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alula import cli
from alula.evaluation import simulator_checks as checks
from alula.evaluation import simulator_robot_checks as robot_checks
from alula.evaluation.simulator_cases import ArmCase
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.isaac.arm import IsaacArm
from alula.sim.isaac.worker import IsaacName, Worker
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import lift

FAKES = Path(__file__).parents[1] / "sim" / "isaac" / "fakes"
BACK_ENDS = [("isaac-gym", ""), ("isaac-lab", "2"), ("isaac-lab", "3")]
ids = pytest.mark.parametrize(
    "back_end", BACK_ENDS, ids=["isaac-gym", "isaac-lab-2", "isaac-lab-3"]
)


@pytest.fixture
def fakes(back_end: tuple[IsaacName, str], monkeypatch: pytest.MonkeyPatch) -> IsaacName:
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("FAKE_ISAAC_LAB", back_end[1])
    return back_end[0]


@pytest.fixture
def worker(fakes: IsaacName) -> Iterator[Worker]:
    worker = Worker(fakes)
    yield worker
    worker.close()


@ids
def test_what_the_adapters_are_about(worker: Worker) -> None:
    """In one process, for each takes its time to start."""
    robot = load_arm("panda")

    def build(task, config: ArmSimConfig, n_envs: int, auto_reset: bool) -> IsaacArm:
        return IsaacArm(
            robot, task, config, n_envs, worker=worker, device="cpu", auto_reset=auto_reset
        )

    case = ArmCase(build=build, robot=robot, task=lift)
    for check in (
        checks.shapes_and_types,
        checks.reset_forgets,
        checks.final_observation,
        checks.one_fails_alone,
        checks.environments_are_apart,
        robot_checks.joint_order,
        robot_checks.tool_frame,
        robot_checks.objects_fall,
    ):
        check(case)
    moves_as_in_mujoco(case)


def moves_as_in_mujoco(case: ArmCase) -> None:
    """The fakes have no friction, else drives, masses and steps are the same: joints within 5 mrad after 0.4 s."""
    isaac = case.quiet(checks.N)
    assert isinstance(isaac, IsaacArm)
    other = MujocoArm(case.robot, lift, isaac.config, checks.N)
    move = np.full((checks.N, 8), 0.5, np.float32) * [1, -1, 1, -1, 1, -1, 1, -1]
    for simulator in (isaac, other):
        simulator.reset(4)
        begin = simulator.scene.joint_position
        for _ in range(20):
            simulator.step(move)
        assert np.abs(simulator.scene.joint_position - begin)[:, :7].min() > 0.1
    apart = isaac.scene.joint_position - other.scene.joint_position
    assert np.abs(apart[:, :7]).max() < 0.005
    assert np.abs(apart[:, 7]).max() < 0.002


@pytest.mark.slow
@ids
@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_check_sim_passes(fakes: IsaacName, robot: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["check-sim", fakes, "--robot", robot, "--device", "cpu", "--out", str(out)]
    assert cli.main(arguments) == 0
    text = (out / "check-sim.md").read_text()
    assert "- quaternion: " in text
    assert "FAILED" not in text


@pytest.mark.slow
@pytest.mark.parametrize("back_end", BACK_ENDS[:1])
def test_what_goes_wrong_in_isaac_is_reported(fakes: IsaacName, tmp_path: Path, capsys) -> None:
    """A device that the fake does not know: every check fails, and the report says why and what was printed."""
    out = tmp_path / "out"
    assert cli.main(["check-sim", fakes, "--device", "cuda:x", "--out", str(out)]) == 1
    assert (
        "check failed: shapes_and_types: AlulaError: isaac-gym: ValueError"
        in capsys.readouterr().err
    )
    assert "Traceback" in (out / "check-sim.md").read_text()
