"""The contract between a policy and whatever flies it: what it sees, what it says, at what rate.

The contract is plain data. It travels inside the policy file as JSON (see docs/policy-file.md) and is
all that a simulator, a ROS 2 node or a microcontroller needs in order to feed the network.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alula.errors import AlulaError

SCHEMA_VERSION = 1
ACTION_HISTORY = "previous_action"
"""Name of the entry that the consumer fills itself from the actions it has sent."""


@dataclass(frozen=True, kw_only=True)
class ObservationEntry:
    """A named slice of the raw observation, `size * history` floats, oldest first.

    Every entry but `previous_action` is supplied by the robot; `previous_action` is the consumer's own
    record of the last `history` policy outputs, which stands at `initial` after a reset.
    """

    name: str
    """Name, with its frame: position_w, rot_wb, velocity_w, angular_velocity_b, ..."""
    unit: str
    """Unit: m, m/s, rad/s, or - for none."""
    frame: str
    """Frame: w (world ENU), b (body FLU), wb (maps b to w), or - for none."""
    size: int
    """Floats of one sample; matrices row-major."""
    history: int = 1
    """Samples at the policy's native rate, oldest first; 1 is the present one only."""
    delay: float = 0.0
    """Largest age of this entry in training [s]."""
    noise: float = 0.0
    """Standard deviation of the training noise [unit]."""
    initial: float = 0.0
    """Value of every sample of a history after a reset."""

    def __post_init__(self) -> None:
        if not self.name or self.size < 1 or self.history < 1:
            raise AlulaError(
                f"observation entry {self.name!r}: size {self.size}, history {self.history}; "
                "allowed: a name, size >= 1, history >= 1"
            )
        if not all(math.isfinite(x) for x in (self.delay, self.noise, self.initial)):
            raise AlulaError(f"observation entry {self.name!r}: delay, noise, initial not finite")


@dataclass(frozen=True, kw_only=True)
class ActionEntry:
    """One policy output in [-1, 1] and what it means to the robot."""

    name: str
    """Rotor, joint, or part of the tool's step: tool_x, ..., tool_turn_z."""
    low: float
    """Command at action -1 [unit]."""
    high: float
    """Command at action +1 [unit]."""
    unit: str
    """Unit of low and high."""
    meaning: str
    """Command word: throttle, joint_position_delta, joint_torque, end_effector_delta, ... (docs/policy-file.md)."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Everything a consumer must know to fly the policy."""

    robot: str
    """Robot name."""
    robot_hash: str
    """SHA-256 of the robot's parameters (`Multirotor.hash`)."""
    task: str
    """Task name."""
    control_dt: float
    """Time between two policy steps, the policy's native rate [s]."""
    observation: tuple[ObservationEntry, ...]
    """Observation entries in the order of the network's input."""
    action: tuple[ActionEntry, ...]
    """Action entries in output order; rotors, joints or steps of the tool by name."""
    recurrent_state_size: int = 0
    """Floats of recurrent state; 0 for a feed-forward policy."""
    training: dict[str, Any]
    """Preset, seed, version, git commit, and the summary of the run."""
    schema_version: int = SCHEMA_VERSION
    """Version of this layout."""

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise AlulaError(
                f"policy schema version {self.schema_version}; this alula reads {SCHEMA_VERSION}"
            )
        if not (math.isfinite(self.control_dt) and self.control_dt > 0.0):
            raise AlulaError(f"control_dt is {self.control_dt}; allowed: > 0 s")
        for entries in (self.observation, self.action):
            names = [e.name for e in entries]
            if not names or len(set(names)) != len(names):
                raise AlulaError(f"contract entries {names}; allowed: at least one, distinct names")
        for entry in self.observation:
            if entry.name == ACTION_HISTORY and entry.size != len(self.action):
                raise AlulaError(
                    f"{ACTION_HISTORY} has size {entry.size}; allowed: {len(self.action)} actions"
                )

    @property
    def observation_size(self) -> int:
        """Floats O of the network's input."""
        return sum(e.size * e.history for e in self.observation)

    @property
    def action_size(self) -> int:
        """Floats A of the network's output."""
        return len(self.action)

    @property
    def supplied(self) -> tuple[ObservationEntry, ...]:
        """The entries the robot supplies at each step: all but `previous_action`."""
        return tuple(e for e in self.observation if e.name != ACTION_HISTORY)

    @property
    def supplied_size(self) -> int:
        """Floats of one sample of all supplied entries."""
        return sum(e.size for e in self.supplied)

    def to_json(self) -> dict[str, Any]:
        """The contract as plain JSON values."""
        return asdict(self)


class History:
    """Assembles the network's input from present samples, for N robots at once.

    Keeps the last `history` samples of each entry. Before the first step after a reset, the history of a
    supplied entry is filled with its first sample and that of `previous_action` with `initial`.
    """

    def __init__(self, contract: Contract, n_envs: int) -> None:
        self.contract = contract
        self.n_envs = n_envs
        self._buffers = {
            e.name: np.full((n_envs, e.history, e.size), e.initial, np.float32)
            for e in contract.observation
        }
        self._fresh = np.ones(n_envs, bool)

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Forget the past of all robots, or of those where mask [N] is true."""
        chosen = np.ones(self.n_envs, bool) if mask is None else mask
        for entry in self.contract.observation:
            self._buffers[entry.name][chosen] = entry.initial
        self._fresh |= chosen

    def observe(self, supplied: np.ndarray) -> np.ndarray:
        """Network input [N, O] from the present supplied samples [N, supplied_size], in contract order."""
        start, parts = 0, []
        for entry in self.contract.observation:
            buffer = self._buffers[entry.name]
            if entry.name != ACTION_HISTORY:
                sample = supplied[:, start : start + entry.size]
                start += entry.size
                _push(buffer, sample)
                if entry.history > 1:
                    buffer[self._fresh] = sample[self._fresh, None, :]
            parts.append(buffer.reshape(self.n_envs, -1))
        self._fresh[:] = False
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def act(self, action: np.ndarray) -> None:
        """Record the action [N, A] that was sent."""
        if ACTION_HISTORY in self._buffers:
            _push(self._buffers[ACTION_HISTORY], action)


def _push(buffer: np.ndarray, sample: np.ndarray) -> None:
    buffer[:, :-1] = buffer[:, 1:]
    buffer[:, -1] = sample
