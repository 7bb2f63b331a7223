"""The checks of simulators must fail on simulators that are wrong: each fault is found by the check that is for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from alula.build import build_simulator
from alula.errors import AlulaError
from alula.evaluation import simulator_checks as checks
from alula.evaluation import simulator_robot_checks as robot_checks
from alula.evaluation.simulator_cases import ArmCase, FlightCase
from alula.robots.arm import Arm, load_arm
from alula.robots.multirotor import load_robot
from alula.sim.arm_config import ArmSimConfig
from alula.sim.arm_scene import Scene
from alula.sim.config import SimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.sim.protocol import Transition
from alula.tasks import hover, lift, reach


class Broken:
    """A good arm, seen through a fault."""

    def __init__(self, inner: MujocoArm, fault: str) -> None:
        self.inner, self.fault, self.count = inner, fault, 0

    @property
    def n_envs(self) -> int:
        return self.inner.n_envs

    @property
    def scene(self) -> Scene:
        scene = self.inner.scene
        sensor = dict(scene.sensor)
        if self.fault == "quaternion last":
            sensor = {k: np.roll(v, -1, 1) if "quat" in k else v for k, v in sensor.items()}
        if self.fault == "world origin":
            at = 4.0 * np.arange(self.n_envs)[:, None] * [1.0, 0.0, 0.0]
            sensor = {k: v + at if "position" in k else v for k, v in sensor.items()}
        if self.fault == "joints mixed":
            return replace(scene, joint_position=np.roll(scene.joint_position, 1, axis=1))
        return replace(scene, sensor=sensor)

    def reset(self, seed: int) -> np.ndarray:
        self.count += 1
        if self.fault == "one seed":
            seed = 0
        if self.fault == "own seed":
            seed += 1000 * self.count
        return self.inner.reset(seed)

    def step(self, action: np.ndarray) -> Transition:
        if self.fault == "takes NaN":
            action = np.nan_to_num(action)
        t = self.inner.step(action)
        ended = t.terminated | t.truncated
        if self.fault == "float64":
            return replace(t, observation=t.observation.astype(np.float64))
        if self.fault == "final row overwritten":
            return replace(t, final_observation=t.observation, final_privileged=t.privileged)
        if self.fault == "all start anew" and ended.any() and not ended.all():
            observation = t.observation.copy()
            observation[~ended] += 0.1
            return replace(t, observation=observation)
        if self.fault == "never ends":
            return replace(t, truncated=np.zeros_like(t.truncated))
        return t


def arm_case(fault: str, robot: str = "ur5e") -> ArmCase:
    arm = load_arm(robot)
    task = lift if robot == "panda" else reach

    def build(task, config: ArmSimConfig, n_envs: int, auto_reset: bool):
        return Broken(MujocoArm(arm, task, config, n_envs, auto_reset=auto_reset), fault)

    return ArmCase(build=build, robot=arm, task=task)


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        ("float64", checks.shapes_and_types, "dtype float64"),
        ("own seed", checks.reset_forgets, "differ by"),
        ("one seed", checks.seeds_differ, "seeds 1 and 2"),
        ("never ends", checks.time_limit, "truncated is"),
        ("never ends", checks.no_auto_reset, "truncated is"),
        ("final row overwritten", checks.time_limit, "final rows are the next episode's"),
        ("final row overwritten", checks.final_observation, "differ by"),
        ("all start anew", checks.one_fails_alone, "other environments were started anew"),
        ("takes NaN", checks.bad_actions_are_refused, "NaN was taken"),
        ("joints mixed", robot_checks.joint_order, "moves shoulder_lift_joint"),
        ("joints mixed", robot_checks.tool_frame, "m off"),
        ("quaternion last", robot_checks.tool_frame, "turned by"),
        ("world origin", robot_checks.tool_frame, "m off"),
    ],
)
def test_faults_are_found(fault: str, check: Callable[[ArmCase], str], says: str) -> None:
    check(arm_case(""))
    with pytest.raises(checks.CheckFailed, match=says):
        check(arm_case(fault))


@pytest.mark.parametrize(("fault", "says"), [("world origin", "from where"), ("quaternion last", "is turned")])  # fmt: skip
def test_faults_of_objects_are_found(fault: str, says: str) -> None:
    with pytest.raises(checks.CheckFailed, match=says):
        robot_checks.objects_fall(arm_case(fault, "panda"))


def test_weightless_objects_are_found() -> None:
    arm = load_arm("panda")

    def lighter(spec) -> None:
        spec.option.gravity[2] = -8.0

    def build(task, config: ArmSimConfig, n_envs: int, auto_reset: bool) -> MujocoArm:
        return MujocoArm(arm, task, config, n_envs, auto_reset=auto_reset, edit=lighter)

    with pytest.raises(checks.CheckFailed, match=r"it falls -0\.16"):
        robot_checks.objects_fall(ArmCase(build=build, robot=arm, task=lift))


def test_a_vehicle_that_falls_otherwise_is_found() -> None:
    robot = load_robot("crazyflie-l2f")
    said = replace(robot, throttle_min=0.5)

    def build(config: SimConfig, n_envs: int, auto_reset: bool):
        return build_simulator("multirotor", robot, hover, config, n_envs, auto_reset=auto_reset)

    case = FlightCase(build=build, robot=said, config=SimConfig())
    with pytest.raises(checks.CheckFailed, match=r"after 0\.2 s"):
        robot_checks.vehicles_fall(case)


def test_flights_and_arms_have_checks_of_their_own() -> None:
    def named(case) -> set[str]:
        return {check.__name__ for check in robot_checks.checks_of(case)}

    ur5e, panda = named(arm_case("")), named(arm_case("", "panda"))
    assert panda - ur5e == {"objects_fall"}
    assert {"joint_order", "tool_frame", "same_seed"} <= ur5e
    assert "vehicles_fall" not in ur5e


def test_the_error_of_a_simulator_is_its_own() -> None:
    """Errors pass through a check; who runs it says what they mean."""

    def build(task, config: ArmSimConfig, n_envs: int, auto_reset: bool):
        raise AlulaError("the process of isaac-gym ended")

    arm: Arm = load_arm("ur5e")
    with pytest.raises(AlulaError, match="ended"):
        checks.same_seed(ArmCase(build=build, robot=arm, task=reach))


@dataclass(frozen=True)
class Nothing:
    """A simulator of zeros."""

    n_envs: int

    def reset(self, seed: int) -> np.ndarray:
        return np.zeros((self.n_envs, 3), np.float32)


def test_zeros_are_no_simulation() -> None:
    case = ArmCase(build=lambda *a: Nothing(a[2]), robot=load_arm("ur5e"), task=reach)  # type: ignore[arg-type, return-value]
    with pytest.raises(checks.CheckFailed, match="differ by 0"):
        checks.seeds_differ(case)
