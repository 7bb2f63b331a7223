"""A policy file at work on one robot: samples by name and the time in, action and command out; no ROS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import TYPE_CHECKING, Literal

import numpy as np

from alula.deploy_ros2.samples import Reference, Sample

if TYPE_CHECKING:
    from alula.policies.onnx_file import Policy, Robot

Engine = Literal["onnx", "c"]


class Status(IntFlag):
    """What happened in a step; bits and meaning are those of policy.h of the C export."""

    OK = 0
    BETWEEN = 1
    """No step is due: the action is repeated, the samples were not read."""
    MISSED = 2
    """Steps were missed before this one; the histories were advanced by them."""
    RESTARTED = 4
    """The clock jumped too far: the histories began anew."""
    CLIPPED = 8
    """An input lies beyond what the normaliser passes: it was clipped."""
    SATURATED = 16
    """An action lies beyond 0.999."""
    NOT_FINITE = 32
    """An input was NaN, infinite, of the wrong size or no rotation: held."""
    STALE = 64
    """An input is missing, too old or from the future: held."""
    TIME_BACKWARDS = 128
    """Called with an earlier time than before, or with one that is not finite: held."""
    DAMAGED = 256
    """The network's result was not finite: held."""
    LOST = 512
    """Held for more than lost_steps: the initial action from now on."""
    HELD = 32 + 64 + 128 + 256
    """Any of these: the last valid action is repeated."""


@dataclass(kw_only=True)
class Counters:
    """How often each of these happened since the start; as in policy.h of the C export."""

    steps: int = 0
    """Steps that were due, held ones included."""
    between: int = 0
    missed: int = 0
    """Missed steps (not calls)."""
    restarted: int = 0
    clipped: int = 0
    saturated: int = 0
    not_finite: int = 0
    stale: int = 0
    time_backwards: int = 0
    damaged: int = 0
    held_in_a_row: int = 0
    """Steps held since the last valid one; 0 when all is well."""


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
    """Assembles the observation, keeps the histories and the native rate, runs the network.

    `names` are the rotors or joints in the order of `Step.action` and `Step.command`, `control_dt` the native
    rate [s], `counters` what happened so far, `self_test_difference` the largest error of the golden sequences.
    """

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
        raise NotImplementedError

    names: tuple[str, ...]
    control_dt: float
    counters: Counters
    self_test_difference: float

    def reset(self) -> None:
        """Forget the past. Before take-off. Counters stay."""
        raise NotImplementedError

    def step(
        self, now: float, samples: Mapping[str, Sample], reference: Reference | None = None
    ) -> Step:
        """One call of the control loop at time now [s]; never raises for what samples and time hold.

        Once every control_dt the network is evaluated; calls between repeat its action.
        """
        raise NotImplementedError
