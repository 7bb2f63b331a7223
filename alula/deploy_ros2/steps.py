"""The policy's steps on a clock, in Python: what policy_template.c of the C export does, call for call."""

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np

from alula.policies.contract import ACTION_HISTORY, Contract

if TYPE_CHECKING:
    from alula.policies.onnx_file import Policy

NO_STAMP = 2**64 - 1
"""The time of an entry that was never measured [us]: from the future, so it is stale."""
STALE_STEPS = 3
"""Steps that an input may be older than the oldest in training."""
RESTART_STEPS = 10
"""Shortest pause that may start the histories anew [steps]; the longest history where that is longer."""
SATURATION = 0.999
"""An action beyond this counts as saturated [-]."""


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
    """An action lies beyond SATURATION."""
    NOT_FINITE = 32
    """An input was NaN, infinite, of the wrong size or no rotation: held."""
    STALE = 64
    """An input is missing, too old or from the future: held."""
    TIME_BACKWARDS = 128
    """Called with an earlier time than before, or with one that is no time: held."""
    DAMAGED = 256
    """The network's result was not finite: held."""
    LOST = 512
    """Held for more than lost_steps: the initial action from now on."""
    HELD = 32 + 64 + 128 + 256
    """Any of these: the last valid action is repeated."""


# Plain integers: flags cost a microsecond an operation.
BETWEEN, MISSED, RESTARTED, CLIPPED, SATURATED = 1, 2, 4, 8, 16
NOT_FINITE, STALE, TIME_BACKWARDS, DAMAGED, LOST, HELD = 32, 64, 128, 256, 512, 480


@dataclass(kw_only=True)
class Counters:
    """How often each of these happened since the start; as in policy.h of the C export."""

    steps: int = 0
    """Steps that were due, held ones included."""
    between: int = 0
    """Calls with Status.BETWEEN."""
    missed: int = 0
    """Missed steps (not calls)."""
    restarted: int = 0
    """Status.RESTARTED."""
    clipped: int = 0
    """Status.CLIPPED."""
    saturated: int = 0
    """Status.SATURATED."""
    not_finite: int = 0
    """Status.NOT_FINITE."""
    stale: int = 0
    """Status.STALE."""
    time_backwards: int = 0
    """Status.TIME_BACKWARDS."""
    damaged: int = 0
    """Status.DAMAGED."""
    held_in_a_row: int = 0
    """Steps held since the last valid one; 0 when all is well."""


def default_stale_us(contract: Contract) -> list[int]:
    """Largest age of each supplied entry [us]: the largest in training and STALE_STEPS steps."""
    step_us = round(1e6 * contract.control_dt)
    return [round(1e6 * e.delay) + STALE_STEPS * step_us for e in contract.supplied]


def initial_action(contract: Contract) -> float:
    """The action before the first valid observation: the start of the record of actions, or 0."""
    for entry in contract.observation:
        if entry.name == ACTION_HISTORY:
            return min(1.0, max(-1.0, entry.initial))
    return 0.0


@dataclass(frozen=True, kw_only=True)
class _Ring:
    """Where the samples of one entry stand in the network's input."""

    all: slice
    """The whole history, oldest first."""
    older: slice
    """All but the newest sample."""
    newer: slice
    """All but the oldest sample."""
    newest: slice
    """The newest sample."""
    supplied: slice
    """The entry in the supplied floats; empty for the policy's own past actions."""
    own: bool
    """Whether it holds the policy's own past actions."""
    initial: float
    """Value after a reset."""

    def push(self, x: np.ndarray, sample: np.ndarray) -> None:
        """Record a sample."""
        # Overlapping, but numpy copies as if through a buffer.
        x[self.older] = x[self.newer]
        x[self.newest] = sample


class _Bound:
    """The network in ONNX Runtime on buffers of ours: nothing is looked up, checked or copied in flight."""

    def __init__(self, policy: "Policy", observation: np.ndarray) -> None:
        """`observation` (1, O) is where the network reads, float32; that it does is seen by the self-test."""
        self._action = np.zeros((1, policy.contract.action_size), np.float32)
        self._state = np.zeros((1, policy.network.state_size), np.float32)
        self._next_state = np.zeros_like(self._state)
        self._session, self._binding = policy.session, policy.session.io_binding()
        # All buffers are kept: ONNX Runtime knows only their addresses.
        self._observation = observation
        inputs, outputs = {"observation": observation}, {"action": self._action}
        if self._state.size:
            inputs["state"], outputs["next_state"] = self._state, self._next_state
        for bind, arrays in ((self._binding.bind_input, inputs), (self._binding.bind_output, outputs)):  # fmt: skip
            for name, array in arrays.items():
                bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def reset(self) -> None:
        """Forget the past."""
        self._state[:] = 0.0

    def run(self) -> np.ndarray:
        """Action (A); valid until the next call."""
        self._session.run_with_iobinding(self._binding)
        self._state[:] = self._next_state
        return self._action[0]


class Steps:
    """One robot's policy through ONNX Runtime: schedule, histories, network. Times are whole microseconds."""

    def __init__(self, policy: "Policy", stale_us: list[int], lost_steps: int) -> None:
        contract = policy.contract
        self.action = np.empty(contract.action_size, np.float32)
        """Last action given out."""
        self._stale_us, self._lost_steps = stale_us, lost_steps
        self._step_us = round(1e6 * contract.control_dt)
        self._early_us = self._step_us // 8
        longest = max(e.history for e in contract.observation)
        self._restart_us = self._step_us * max(longest, RESTART_STEPS)
        self._initial = initial_action(contract)
        self._rings = _rings(contract)
        self._pasts = [r for r in self._rings if r.older.stop > r.older.start]
        self._x = np.zeros((1, contract.observation_size), np.float32)
        network = policy.network
        self._mean, self._scale, self._clip = network.mean, network.scale, network.clip
        self._scaled = np.empty(contract.observation_size, np.float32)
        self._network = _Bound(policy, self._x)
        self.init()

    def init(self) -> None:
        """As new: the past forgotten, the counters at zero."""
        self.counters = Counters()
        self.reset()

    def reset(self) -> None:
        """Forget the past; counters stay."""
        for ring in self._rings:
            self._x[0, ring.all] = ring.initial
        self._network.reset()
        self.action[:] = self._initial
        self.counters.held_in_a_row = 0
        self._next_us = self._last_us = 0
        self._started = False
        self._fresh = True

    def step(self, supplied: np.ndarray, stamps_us: list[int], now_us: int) -> int:
        """One call; the action is in `action`, the bits of Status are returned.

        Args:
            supplied: floats of the supplied entries (S), float32.
            stamps_us: when each entry was measured [us].
            now_us: time of the call [us].
        """
        counters = self.counters
        status = self._schedule(now_us)
        if not status & (BETWEEN | TIME_BACKWARDS):
            status |= self._step_now(supplied, stamps_us, now_us)
            counters.steps += 1
            counters.held_in_a_row = counters.held_in_a_row + 1 if status & HELD else 0
            if counters.held_in_a_row > self._lost_steps:
                self.action[:] = self._initial
            self._record_action()
        return status | LOST if counters.held_in_a_row > self._lost_steps else status

    def no_time(self) -> int:
        """A call whose time is no time: as one with an earlier time than before."""
        self.counters.time_backwards += 1
        return TIME_BACKWARDS | (LOST if self.counters.held_in_a_row > self._lost_steps else 0)

    def _schedule(self, now_us: int) -> int:
        # Steps stay on a grid of step_us, so that jitter does not change their mean rate.
        counters, status = self.counters, 0
        late = now_us + self._early_us - self._next_us
        pause = now_us - self._last_us
        if self._started and not -self._step_us <= pause <= self._restart_us:
            self.reset()
            counters.restarted += 1
            status = RESTARTED
        elif pause < 0:
            counters.time_backwards += 1
            return TIME_BACKWARDS
        self._last_us = now_us
        if not self._started:
            self._started = True
            self._next_us = now_us + self._step_us
        elif late < 0:
            counters.between += 1
            return BETWEEN
        else:
            missed = late // self._step_us
            self._next_us += self._step_us * (missed + 1)
            if missed:
                counters.missed += missed
                status = MISSED
            for _ in range(missed):
                self._repeat_samples()
                self._record_action()
        return status

    def _step_now(self, supplied: np.ndarray, stamps_us: list[int], now_us: int) -> int:
        counters, status = self.counters, 0
        if not np.isfinite(supplied).all():
            counters.not_finite += 1
            status |= NOT_FINITE
        if self._is_stale(stamps_us, now_us):
            counters.stale += 1
            status |= STALE
        if status:
            self._repeat_samples()
            return status
        self._observe(supplied)
        if self._is_clipped():
            counters.clipped += 1
            status |= CLIPPED
        action = self._network.run()
        low, high = float(action.min()), float(action.max())
        # Never true for NaN
        if not (low > -2.0 and high < 2.0):
            counters.damaged += 1
            return status | DAMAGED
        np.clip(action, -1.0, 1.0, out=self.action)
        if high > SATURATION or low < -SATURATION:
            counters.saturated += 1
            status |= SATURATED
        return status

    def _is_stale(self, stamps_us: list[int], now_us: int) -> bool:
        # Too old, or more than one step from the future: the clocks differ, so its age is not known.
        for at, limit in zip(stamps_us, self._stale_us, strict=True):
            if not -self._step_us <= now_us - at <= limit:
                return True
        return False

    def _observe(self, supplied: np.ndarray) -> None:
        x = self._x[0]
        for ring in self._rings:
            if ring.own:
                continue
            sample = supplied[ring.supplied]
            if self._fresh and ring.older.stop > ring.older.start:
                x[ring.all].reshape(-1, len(sample))[:] = sample
            else:
                ring.push(x, sample)
        self._fresh = False

    def _is_clipped(self) -> bool:
        # |(x - mean) * scale| > clip for any input
        np.subtract(self._x[0], self._mean, out=self._scaled)
        np.multiply(self._scaled, self._scale, out=self._scaled)
        np.abs(self._scaled, out=self._scaled)
        return bool(self._scaled.max() > self._clip)

    def _repeat_samples(self) -> None:
        # Nothing new has come: the newest samples once more, so that the histories keep their time.
        x = self._x[0]
        for ring in self._pasts:
            if not ring.own:
                ring.push(x, x[ring.newest].copy())

    def _record_action(self) -> None:
        for ring in self._rings:
            if ring.own:
                ring.push(self._x[0], self.action)


def _rings(contract: Contract) -> list[_Ring]:
    rings, first, row = [], 0, 0
    for e in contract.observation:
        last, own = first + e.size * e.history, e.name == ACTION_HISTORY
        taken = 0 if own else e.size
        rings.append(
            _Ring(
                all=slice(first, last),
                older=slice(first, last - e.size),
                newer=slice(first + e.size, last),
                newest=slice(last - e.size, last),
                supplied=slice(row, row + taken),
                own=own,
                initial=e.initial,
            )
        )
        first, row = last, row + taken
    return rings
