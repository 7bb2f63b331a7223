"""Which matrices of a policy can be int8: candidates are compiled and flown beside the float32 policy (docs/quantisation.md)."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alula.c_compiler import find_compiler
from alula.errors import AlulaError
from alula.evaluation.evaluate import evaluate, policy_task
from alula.evaluation.flight import Flight
from alula.evaluation.metrics import LAST_S, RESAMPLES, STARTUP_S, Interval
from alula.evaluation.pil import present_samples
from alula.firmware_export.c_export import export_c
from alula.firmware_export.c_layers import matrices
from alula.firmware_export.host import build_host
from alula.firmware_export.quantise import FORMATS, Format, network_step
from alula.policies.onnx_file import Policy
from alula.robots.multirotor import Multirotor

EPISODES = 256
"""Episodes of each flight; with the same starts, disturbances and noise their errors differ by 1 or 2 % only."""
STATES = 10_000
"""Closed-loop states on which actions are compared."""
GROWTH_LIMIT = 0.1
"""Largest growth of the error."""
LOST_LIMIT = 0.01
"""Largest share of the episodes that may fail more than in float32, where that is more than chance."""
CHANCE = 0.1
"""Probability below which lost episodes are not chance. A policy on the edge loses some and gains others whenever
anything changes, the last bit of an action too."""


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """A choice of formats and what it costs in flight."""

    matrices: tuple[str, ...]
    """What each matrix is, in order."""
    formats: tuple[Format, ...]
    """The format of each."""
    matrix_max_abs_diff: tuple[float, ...]
    """Largest change of an action over the closed-loop states when this matrix alone has its format [-]."""
    flight_max_abs_diff: float
    """Largest change over the closed-loop states with all of them [-]."""
    flight_rms_diff: float
    """Root mean square of the same [-]."""
    golden_max_abs_diff: float
    """Largest difference of the compiled C from the golden actions of the policy file [-]."""
    error: str
    """What grew: hover_error_m or tracking_rmse_m."""
    float32_m: float
    """That error of the float32 policy over the episodes that survive in both flights [m]."""
    quantised_m: float
    """And of the compiled C with these formats [m]."""
    growth: float
    """quantised / float32 - 1 [-]."""
    growth_interval: Interval
    """95 % interval of the growth: bootstrap over pairs of episodes."""
    float32_success: float
    """Share of episodes that survive in float32 [-]."""
    quantised_success: float
    """Share that survives with these formats [-]."""
    lost: int
    """Episodes that survive in float32 only."""
    gained: int
    """Episodes that survive with these formats only."""
    episodes: int
    """Episodes flown."""
    tried: int
    """Choices that were compiled and flown until this one."""
    float32_flash_bytes: int
    """Constants of the float32 export [B]."""
    quantised_flash_bytes: int
    """Constants with these formats [B]."""

    @property
    def acceptable(self) -> bool:
        """Whether error and success are about those of float32."""
        few = self.lost - self.gained <= LOST_LIMIT * self.episodes
        return self.growth <= GROWTH_LIMIT and (few or sign_test(self.lost, self.gained) >= CHANCE)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def sign_test(lost: int, gained: int) -> float:
    """Probability of at least so many lost ones of lost + gained, were each as likely lost as gained."""
    # sum_{k >= lost} C(n, k) / 2^n   (exact one-sided sign test of paired outcomes)
    n = lost + gained
    return sum(math.comb(n, k) for k in range(lost, n + 1)) / 2**n


def choose_formats(
    policy: Policy,
    *,
    robot: Multirotor | None = None,
    episodes: int = EPISODES,
    seed: int = 0,
    steps: int | None = None,
) -> Quantisation:
    """The smallest formats with which a policy still flies: every matrix begins as int8-int16.

    Where a choice fails, the matrix that alone changes the actions most goes one step up (int8-int16,
    int8-float, float32), and the flight is repeated.

    Args:
        policy: the policy.
        robot: vehicle to fly; None takes the shipped robot the policy was made for.
        episodes: episodes of each flight.
        seed: evaluation seed.
        steps: episode length; None: as `evaluate`.

    Raises:
        AlulaError: nothing but float32 remains, there is no C compiler, or as `evaluate`.
    """
    flights = _Flights(policy, robot, episodes, seed, steps)
    formats: list[Format] = [FORMATS[-1]] * len(flights.names)
    tried = 0
    while set(formats) != {"float32"}:
        tried += 1
        result = flights.fly(tuple(formats), tried)
        if result.acceptable:
            return result
        own = np.where(np.array(formats) == "float32", -1.0, result.matrix_max_abs_diff)
        worst = int(np.argmax(own))
        formats[worst] = FORMATS[FORMATS.index(formats[worst]) - 1]
    raise AlulaError(
        f"no matrix of the policy can be int8: with the last choice {_verdict(result)}; allowed: float32"
    )


def check_formats(
    policy: Policy,
    formats: Sequence[Format],
    *,
    robot: Multirotor | None = None,
    episodes: int = EPISODES,
    seed: int = 0,
    steps: int | None = None,
) -> Quantisation:
    """Fly a given choice of formats, one for each matrix; arguments as `choose_formats`.

    Raises:
        AlulaError: unknown formats, or the policy flies worse with them than GROWTH_LIMIT and LOST_LIMIT allow;
            else as `choose_formats`.
    """
    matrices(policy.network, formats)
    result = _Flights(policy, robot, episodes, seed, steps).fly(tuple(formats), 1)
    if not result.acceptable:
        raise AlulaError(f"with matrix formats {', '.join(formats)}, {_verdict(result)}")
    return result


def _verdict(result: Quantisation) -> str:
    return (
        f"the error grows by {result.growth:.0%} and success goes from {result.float32_success:.1%} to "
        f"{result.quantised_success:.1%}; allowed: {GROWTH_LIMIT:.0%}, and {LOST_LIMIT:.0%} of the episodes"
    )


class _Flights:
    """Flights of one policy with the same starts, disturbances and noise, in float32 and in other formats."""

    def __init__(
        self,
        policy: Policy,
        robot: Multirotor | None,
        episodes: int,
        seed: int,
        steps: int | None,
    ) -> None:
        find_compiler()
        self._policy = policy
        setting = {"robot": robot, "episodes": episodes, "seed": seed, "steps": steps}
        self._setting: dict[str, Any] = setting
        found = matrices(policy.network)
        self.names = tuple(m.note for m in found)
        self._present = present_samples(policy.contract)
        self._recorder = _Recorder(policy, episodes)
        evaluation, self._flight = evaluate(policy, **self._setting, act=self._recorder, traced=1)
        self._success, self._episodes = evaluation.metrics.success, episodes
        self._tracking = bool(policy_task(policy.contract).TRAJECTORY_SIZE)
        if not evaluation.metrics.survived:
            raise AlulaError(
                f"the float32 policy survives none of {episodes} episodes; allowed: a policy that flies"
            )
        observations, states = self._recorder.drawn()
        self._states = observations, states
        self._actions = policy.network.step(observations, states)[0]

    def fly(self, formats: tuple[Format, ...], tried: int) -> Quantisation:
        """Compile a choice, fly it and compare."""
        with tempfile.TemporaryDirectory(prefix="alula-int8-") as scratch:
            source = Path(scratch) / "policy.onnx"
            source.write_bytes(self._policy.data)
            plain = export_c(source, Path(scratch) / "float32")
            export = export_c(source, Path(scratch) / "c", formats=formats)
            host = build_host(export.folder)
        golden = self._policy.golden
        answers = np.stack([host.run(supplied) for supplied in golden.supplied])
        pilot = host.pilot(self._episodes)
        evaluation, flight = evaluate(
            self._policy,
            **self._setting,
            act=lambda observation: pilot(observation[:, self._present]),
            traced=1,
        )
        before, after = self._flight.survived, flight.survived
        own = tuple(self._difference(_only(formats, i)).max() for i in range(len(formats)))
        together = self._difference(formats)
        return Quantisation(
            matrices=self.names,
            formats=formats,
            matrix_max_abs_diff=tuple(map(float, own)),
            flight_max_abs_diff=float(together.max()),
            flight_rms_diff=float(np.sqrt((together**2).mean())),
            golden_max_abs_diff=float(np.abs(answers - golden.action).max()),
            **_growth(self._flight, flight, self._tracking),
            float32_success=self._success,
            quantised_success=evaluation.metrics.success,
            lost=int((before & ~after).sum()),
            gained=int((after & ~before).sum()),
            episodes=self._episodes,
            tried=tried,
            float32_flash_bytes=plain.flash_bytes,
            quantised_flash_bytes=export.flash_bytes,
        )

    def _difference(self, formats: Sequence[Format]) -> np.ndarray:
        """Change of the actions over the closed-loop states (N, A)."""
        action, _ = network_step(self._policy.network, formats)(*self._states)
        return np.abs(action - self._actions)


class _Recorder:
    """Flies the float32 policy and keeps what it met."""

    def __init__(self, policy: Policy, episodes: int) -> None:
        self._controller = policy.controller(episodes)
        self._met: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        # few episodes of each step are enough: keeps memory small in long flights
        kept = np.arange(len(self._met) % 8, len(observation), 8)
        self._met.append((observation[kept], self._controller.state[kept]))
        return self._controller(observation)

    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """About STATES observations [N, O] and states [N, H], evenly over the flight."""
        observations, states = (np.concatenate(part) for part in zip(*self._met, strict=True))
        finite = np.isfinite(observations).all(axis=1)
        every = max(1, int(finite.sum()) // STATES)
        return observations[finite][::every], states[finite][::every]


def _only(formats: Sequence[Format], index: int) -> list[Format]:
    """The format of one matrix, float32 for the others."""
    return [f if i == index else "float32" for i, f in enumerate(formats)]


def _growth(float32: Flight, quantised: Flight, tracking: bool) -> dict[str, Any]:
    """Growth of the error over the episodes that survive in both, with a paired bootstrap interval."""
    both = float32.survived & quantised.survived
    root = np.sqrt if tracking else np.asarray
    before, after = (_episode_errors(flight, tracking)[both] for flight in (float32, quantised))
    name = "tracking_rmse_m" if tracking else "hover_error_m"
    if not both.any():
        nothing = float("inf")
        return {
            **{"error": name, "float32_m": nothing, "quantised_m": nothing},
            **{"growth": nothing, "growth_interval": (nothing, nothing)},
        }
    drawn = np.random.default_rng(0).integers(len(before), size=(RESAMPLES, len(before)))
    growths = root(after[drawn].mean(axis=1) / before[drawn].mean(axis=1)) - 1.0
    low, high = np.percentile(growths, [2.5, 97.5])
    first, second = float(root(before.mean())), float(root(after.mean()))
    return {
        **{"error": name, "float32_m": first, "quantised_m": second},
        **{"growth": second / first - 1.0, "growth_interval": (float(low), float(high))},
    }


def _episode_errors(flight: Flight, tracking: bool) -> np.ndarray:
    """What `metrics.measure` averages, by episode (N,): squares after the start-up, or errors of the last second."""
    errors = flight.position_error.astype(np.float64)
    if tracking:
        first = min(round(STARTUP_S / flight.control_dt), len(errors) - 1)
        return (errors[first:] ** 2).mean(axis=0)
    return errors[-max(1, round(LAST_S / flight.control_dt)) :].mean(axis=0)
