"""A policy file at work on one robot: samples by name and the time in, action and command out; no ROS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from alula.deploy_ros2.arm_observation import ArmSources, outside
from alula.deploy_ros2.observation import Observer, vehicle_entries
from alula.deploy_ros2.robot_checks import check_rate, check_robot
from alula.deploy_ros2.samples import REFERENCES, Reference, Sample
from alula.deploy_ros2.steps import (
    NO_STAMP,
    Counters,
    Status,
    Steps,
    default_stale_us,
)
from alula.errors import AlulaError
from alula.robots.arm import Arm

if TYPE_CHECKING:
    from alula.deploy_ros2.c_steps import CSteps
    from alula.policies.contract import Contract
    from alula.policies.onnx_file import Policy, Robot

__all__ = ["Counters", "Engine", "PolicyRunner", "Status", "Step"]

Engine = Literal["onnx", "c"]
GOLDEN_TOLERANCE = 1e-5
"""Largest difference between a recorded action and a replayed one [-]."""
MAX_TIME_S = 1e13
"""Latest time that is taken for one [s]; in microseconds it fits into 64 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The outcome of one call."""

    action: np.ndarray
    """Policy output in [-1, 1], in the order of `PolicyRunner.names` (A)."""
    command: np.ndarray
    """The same in the unit of the contract, e.g. throttle in [0, 1] (A)."""
    status: Status
    """What happened."""


class PolicyRunner:
    """Assembles the observation, keeps the histories and the native rate, runs the network."""

    def __init__(
        self,
        policy: "Policy",
        robot: "Robot",
        *,
        engine: Engine = "onnx",
        loop_dt: float | None = None,
        passed: Sequence[str] = (),
        stale: Mapping[str, float] | None = None,
        lost_steps: int = 10,
    ) -> None:
        """Check everything that can be checked before the robot moves.

        Args:
            policy: a loaded policy file (`alula.policies.onnx_file.load_policy`).
            robot: a `Multirotor` or an `Arm`; name, hash and the names of rotors or joints must be the contract's.
            engine: ONNX Runtime, or the exported C compiled for this computer.
            loop_dt: period of the loop that will call `step` [s]; not longer than the policy's own.
            passed: entries of the contract that are taken from samples of the same name as they are.
            stale: largest age by entry name [s]; the default is the largest in training and three steps.
            lost_steps: held steps until `Status.LOST`.

        Raises:
            AlulaError: another robot, names, order or limits; a slower loop; an unknown entry; an engine that
                does not reproduce the golden sequences.
        """
        contract = policy.contract
        self.level, self.names = check_robot(contract, robot)
        """What the policy commands; the rotors, joints or steps of the tool in the order of `Step.action`."""
        check_rate(contract, loop_dt)
        self.control_dt = contract.control_dt
        """Native rate [s]."""
        seen = [e.name for e in contract.supplied if e.name not in passed]
        arm = isinstance(robot, Arm)
        known = ArmSources(robot, seen).entries() if arm else vehicle_entries()
        self._observer = Observer(contract, known, passed)
        self.outside = outside(seen) if arm else ()
        """Samples that the policy needs from elsewhere than the arm: goals, and the object's pose."""
        limits = _stale_limits(contract, stale or {})
        if not 0 <= lost_steps <= 1_000_000:
            raise AlulaError(f"lost_steps is {lost_steps}; allowed: 0 to 1000000")
        self.low = np.array([a.low for a in contract.action], np.float32)
        """Commands at action -1 [unit] (A)."""
        self.high = np.array([a.high for a in contract.action], np.float32)
        """Commands at action +1 [unit] (A)."""
        self._limits = list(zip(self.low.tolist(), self.high.tolist(), strict=True))
        self._supplied = np.zeros(contract.supplied_size, np.float32)
        self._now = self._at = 0.0
        self._steps = _engine(engine, policy, limits, lost_steps)
        self.self_test_difference = _self_test(self._steps, policy)
        """Largest difference from the golden sequences that the engine made at the start."""

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        return self._steps.counters

    def reset(self) -> None:
        """Forget the past. Before take-off. Counters stay."""
        self._steps.reset()

    def step(
        self, now: float, samples: Mapping[str, Sample], reference: Reference | None = None
    ) -> Step:
        """One call of the control loop at time now [s]; never raises for what samples and time hold.

        Once every control_dt the network is evaluated; calls between repeat its action.
        """
        with np.errstate(all="ignore"):
            if 0.0 <= now < MAX_TIME_S:
                values, stamps = self._observer.fill(samples, reference, now)
                self._supplied[:] = values
                times = [_microseconds(t) for t in stamps]
                status = self._steps.step(
                    self._supplied, times, _microseconds(self._due(now, samples))
                )
            else:
                status = self._steps.no_time()
            action = self._steps.action.copy()
        # ((1 - a) low + (1 + a) high) / 2: at both ends exactly the limits
        values = [
            0.5 * ((1.0 - a) * low + (1.0 + a) * high)
            for a, (low, high) in zip(action.tolist(), self._limits, strict=True)
        ]
        command = np.array(values, np.float32)
        return Step(action=action, command=command, status=Status(status))

    def _due(self, now: float, samples: Mapping[str, Sample]) -> float:
        """The time by which steps are counted: that of the newest measurement, while it is fresh.

        Measurements come evenly from their sensor; the calls that they trigger jitter by what the middleware and
        the scheduler add, and a call that seems early would be no step.
        """
        stamps = (s.stamp for n, s in samples.items() if n not in REFERENCES and s.stamp <= now)
        newest = max(stamps, default=now)
        at = newest if now - newest < self.control_dt else now
        # Not back behind a call that came while measurements stayed away; a clock that goes back is the engine's to see.
        if now >= self._now:
            at = max(at, self._at)
        self._now, self._at = now, at
        return at


def _microseconds(time: float) -> int:
    """Whole microseconds; NO_STAMP for what is no time."""
    return round(1e6 * max(time, 0.0)) if time < MAX_TIME_S else NO_STAMP


def _stale_limits(contract: "Contract", chosen: Mapping[str, float]) -> list[int]:
    """Largest age of each supplied entry [us]."""
    names = [e.name for e in contract.supplied]
    for name, limit in chosen.items():
        if name not in names:
            raise AlulaError(f"stale names {name!r}; the policy sees: {', '.join(names)}")
        if not 0.0 < limit <= 1000.0:
            raise AlulaError(f"stale age of {name!r} is {limit} s; allowed: > 0, at most 1000")
    defaults = zip(names, default_stale_us(contract), strict=True)
    return [round(1e6 * chosen[n]) if n in chosen else age for n, age in defaults]


def _engine(engine: Engine, policy: "Policy", limits: list[int], lost: int) -> "Steps | CSteps":
    if engine == "onnx":
        return Steps(policy, limits, lost)
    if engine == "c":
        # Here, since it needs the exporter and a compiler, which a robot with ONNX Runtime does not.
        from alula.deploy_ros2.c_steps import CSteps

        return CSteps(policy, limits, lost)
    raise AlulaError(f"unknown engine {engine!r}; known: onnx, c")


def _self_test(steps: "Steps | CSteps", policy: "Policy") -> float:
    """Replay the golden sequences through the engine that will fly; it is as new before and after."""
    contract, golden, worst = policy.contract, policy.golden, 0.0
    step_us, fields = round(1e6 * contract.control_dt), len(contract.supplied)
    for supplied, recorded in zip(golden.supplied, golden.action, strict=True):
        steps.init()
        for k, (sample, action) in enumerate(zip(supplied, recorded, strict=True)):
            steps.step(sample, [k * step_us] * fields, k * step_us)
            worst = max(worst, float(np.abs(steps.action - action).max()))
    steps.init()
    if not worst <= GOLDEN_TOLERANCE:
        raise AlulaError(
            f"this computer does not reproduce the policy's golden sequences: largest difference "
            f"{worst:.3g}; allowed: {GOLDEN_TOLERANCE:g}"
        )
    return worst
