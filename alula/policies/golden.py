"""Golden sequences: observations drawn for the record, and their replay through a policy."""

from collections.abc import Callable

import numpy as np

from alula.policies.contract import ACTION_HISTORY, Contract, History
from alula.policies.metadata import MIN_RECURRENT_STEPS, Golden
from alula.policies.network import Controller, Network, Step

FLOAT32_MAX_ABS_DIFF = 3e-6
"""Largest error of plain float32 arithmetic on a record, a third of what a consumer is allowed."""
AMPLITUDES = (0.3,) * 8 + (0.15,) * 8 + (0.07,) * 8
"""Sizes of the walks to try, the first draw where float32 is good enough is taken, else the best [1 / scale]."""

Act = Callable[[np.ndarray], np.ndarray]
"""Actions [N, A] for network inputs [N, O], both float32."""


def replay(contract: Contract, act: Act, supplied: np.ndarray) -> np.ndarray:
    """Actions [K, T, A] of K sequences of supplied observations [K, T, supplied_size].

    Every sequence starts from a reset; histories and `previous_action` are kept by `History`, as on
    the robot, so an action comes back into later observations. A recurrent policy's `act` is a fresh
    Controller of K robots.
    """
    history = History(contract, supplied.shape[0])
    actions = np.empty((*supplied.shape[:2], contract.action_size), np.float32)
    for t in range(supplied.shape[1]):
        action = act(history.observe(supplied[:, t]))
        history.act(action)
        actions[:, t] = action
    return actions


def record(
    contract: Contract, network: Network, seed: int, count: int, runtime: Step | None = None
) -> Golden:
    """Golden sequences of a float32 network: drawn observations and what it answers.

    The answers are computed in float64 from the float32 numbers and rounded once: nearest to the exact
    result, so that a runtime is charged with its own rounding and nobody else's. (Policies feed their
    actions back, which amplifies rounding; against another float32 runtime the two would add up.) Where
    an observation happens to turn the float32 rounding of numpy or `runtime` into more than
    FLOAT32_MAX_ABS_DIFF, others are drawn, ever
    gentler ones: the record is to tell a wrong file or runtime from a right one, not one rounding from another.
    """

    def answers(step: Step, supplied: np.ndarray) -> np.ndarray:
        return replay(contract, Controller(step, network.state_size, count), supplied)

    exact = network.astype(np.float64)
    judges = [network.step] if runtime is None else [network.step, runtime]
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for attempt, amplitude in enumerate(AMPLITUDES):
        supplied = draw_observations(
            contract, network, seed + 1_000_000 * attempt, count, amplitude=amplitude
        )
        action = answers(exact.step, supplied)
        error = max(float(np.abs(answers(step, supplied) - action).max()) for step in judges)
        if best is None or error < best[0]:
            best = error, supplied, action
        if error <= FLOAT32_MAX_ABS_DIFF:
            break
    assert best is not None
    _, supplied, action = best
    return Golden(supplied=supplied, action=action, runtime="numpy, float64 rounded to float32")


def draw_observations(
    contract: Contract, network: Network, seed: int, count: int, *, amplitude: float = 0.3
) -> np.ndarray:
    """Random supplied observations [count, T, supplied_size].

    T is the longest history + 8, of a recurrent policy at least MIN_RECURRENT_STEPS.

    Random walks of growing amplitude around the normaliser's mean, in units of its scale, as in a flight
    that is going well; rotation matrices are rotation matrices, tilted up to a few tens of degrees. In the
    last two sequences one number of each entry leaves the clip once.
    """
    rng = np.random.default_rng(seed)
    steps = max(e.history for e in contract.observation) + 8
    if contract.recurrent_state_size:
        steps = max(steps, MIN_RECURRENT_STEPS)
    sizes = np.linspace(amplitude / 15.0, amplitude, count)[:, None, None]
    parts, stop = [], 0
    for entry in contract.observation:
        stop += entry.size * entry.history
        if entry.name == ACTION_HISTORY:
            continue
        newest = slice(stop - entry.size, stop)
        walk = rng.normal(size=(count, steps, entry.size))
        walk[:, 1:] *= 0.2
        walk = np.cumsum(walk, axis=1) * sizes
        if entry.name.startswith("rot_") and entry.size == 9:
            parts.append(_rotations(rng, sizes, steps))
            continue
        beyond = np.zeros(walk.shape, bool)
        beyond[-2:, rng.integers(steps), rng.integers(entry.size)] = True
        walk = np.where(beyond, np.sign(walk) * 1.5 * network.clip, walk)
        scale = np.maximum(np.abs(network.scale[newest].astype(np.float64)), 1e-6)
        parts.append(network.mean[newest] + walk / scale)
    drawn = np.concatenate(parts, axis=2)
    return np.clip(drawn, -1e30, 1e30).astype(np.float32)


def _rotations(rng: np.random.Generator, amplitude: np.ndarray, steps: int) -> np.ndarray:
    """Row-major rotation matrices [count, steps, 9] along random walks of unit quaternions from upright."""
    q = rng.normal(size=(amplitude.shape[0], steps, 4))
    q[:, 1:] *= 0.2
    q = np.cumsum(q, axis=1) * 0.5 * amplitude
    q[..., 0] = 1.0
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=2, keepdims=True), 2, 0)
    # R(q) of the unit quaternion q = (w, x, y, z), row by row.
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return np.stack(rows, axis=2)
