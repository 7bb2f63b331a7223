"""What every simulator must do: checks of the `Simulator` protocol, run by alula's own tests and by `alula check-sim`.

A check returns a few words on what it saw, and raises `CheckFailed` with one line where it saw something else. No two
simulators are used at the same time: some physics exist only once in a process.
"""

from collections.abc import Callable, Sequence

import numpy as np

from alula.errors import AlulaError
from alula.evaluation.simulator_cases import Case
from alula.sim.protocol import Simulator, Transition

N = 4
"""Environments in nearly all checks, so that physics that are slow to start are started once."""


class CheckFailed(Exception):
    """What was seen and what had to be, in one line."""


def expect(ok: object, message: str) -> None:
    """Go on only if this is so."""
    if not ok:
        raise CheckFailed(message)


def _arrays(t: Transition) -> list[np.ndarray]:
    return [
        t.observation, t.privileged, t.reward, t.terminated, t.truncated, t.final_observation, t.final_privileged
    ]  # fmt: skip


def random_actions(case: Case, n: int, steps: int, size: float = 1.0) -> np.ndarray:
    """Random actions around rest [T, N, A]."""
    away = np.random.default_rng(0).uniform(-size, size, (steps, n, case.n_actions))
    return (case.rest + away).clip(-1.0, 1.0).astype(np.float32)


def _run(simulator: Simulator, moves: np.ndarray, seed: int = 7) -> list[np.ndarray]:
    """Everything that the simulator says."""
    out = [np.array(simulator.reset(seed))]
    for move in moves:
        out += [np.array(x) for x in _arrays(simulator.step(move))]
    return out


def _same(case: Case, a: Sequence[np.ndarray], b: Sequence[np.ndarray], what: str) -> str:
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        expect(x.shape == y.shape, f"{what}: shapes {x.shape} and {y.shape}")
        if not np.array_equal(x, y):
            difference = np.abs(x.astype(np.float64) - y.astype(np.float64)).max()
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf)))
    allowed = f"up to {case.tolerance:g}" if case.tolerance else "none at all"
    expect(worst <= case.tolerance, f"{what}: differ by {worst:.3g}; allowed: {allowed}")
    return "bitwise" if worst == 0.0 else f"within {worst:.1e}"


def shapes_and_types(case: Case) -> str:
    """Shapes, float32 and bool, finite numbers, over the end of an episode."""
    simulator = case.make(N, episode_steps=4)
    first = simulator.reset(1)
    expect(simulator.n_envs == N, f"n_envs is {simulator.n_envs}; allowed: {N}")
    expect(first.ndim == 2 and len(first) == N, f"reset gives the shape {first.shape}")
    for move in random_actions(case, N, 9):
        t = simulator.step(move)
        for name in ("observation", "final_observation"):
            shape = getattr(t, name).shape
            expect(shape == first.shape, f"{name} has shape {shape}; reset gave {first.shape}")
        shape = t.privileged.shape
        expect(shape == t.final_privileged.shape and shape[0] == N, f"privileged: {shape}")
        for name in ("reward", "terminated", "truncated"):
            shape = getattr(t, name).shape
            expect(shape == (N,), f"{name} has shape {shape}; allowed: {(N,)}")
        for array in (first, t.observation, t.privileged, t.reward, t.final_observation):
            expect(array.dtype == np.float32, f"dtype {array.dtype}; allowed: float32")
            expect(np.isfinite(array).all(), "numbers are not finite")
        for flags in (t.terminated, t.truncated):
            expect(flags.dtype == np.bool_, f"dtype {flags.dtype}; allowed: bool")
    return f"observation {first.shape[1]}, privileged {t.privileged.shape[1]}, actions {case.n_actions}"


def same_seed(case: Case) -> str:
    """Two simulators made and run with the same seed say the same."""
    moves = random_actions(case, N, 25)
    a, b = (_run(case.make(N, episode_steps=10), moves) for _ in range(2))
    return _same(case, a, b, "two runs with one seed")


def reset_forgets(case: Case) -> str:
    """A reset in the middle of other episodes leaves nothing of them."""
    moves = random_actions(case, N, 25)
    simulator = case.make(N, episode_steps=10)
    first = _run(simulator, moves)
    _run(simulator, -moves[:13], seed=8)
    return _same(case, first, _run(simulator, moves), "a run and the same after a reset")


def seeds_differ(case: Case) -> str:
    """Another seed is another episode, and environments differ from each other."""
    simulator = case.make(N)
    apart = float(np.abs(np.array(simulator.reset(1)) - simulator.reset(2)).max())
    expect(apart > 0.01, f"observations of seeds 1 and 2 differ by {apart:.3g}")
    distinct = len(np.unique(simulator.reset(3)[:, 0]))
    expect(distinct == N, f"{distinct} of {N} environments start differently")
    return f"observations differ by {apart:.2g}"


def time_limit(case: Case) -> str:
    """The time limit truncates, and the next episode starts in the same step."""
    simulator = case.make(N, episode_steps=3)
    simulator.reset(0)
    for step, move in enumerate(random_actions(case, N, 7, 0.01)):
        t = simulator.step(move)
        ends = step in (2, 5)
        expect((t.truncated == ends).all(), f"step {step}: truncated is {t.truncated.tolist()}")
        expect(not t.terminated.any(), f"step {step}: terminated is {t.terminated.tolist()}")
        for now, final in (
            (t.observation, t.final_observation),
            (t.privileged, t.final_privileged),
        ):
            kept = np.array_equal(now, final)
            expect(kept != ends, f"step {step}: final rows are the next episode's" if ends
                    else f"step {step}: final rows are not the plain ones")  # fmt: skip
    return "after 3 of 3 steps"


def final_observation(case: Case) -> str:
    """With auto-reset the final rows are what the ended episode would have shown without it."""
    moves, last = random_actions(case, N, 10, 0.01), []
    for auto_reset in (True, False):
        simulator = case.make(N, episode_steps=10, auto_reset=auto_reset)
        simulator.reset(0)
        last.append([simulator.step(move) for move in moves][-1])
    on, off = last
    expect(on.truncated.all() and off.truncated.all(), "the episode did not end at its limit")
    seen = _same(
        case, [on.final_observation, on.final_privileged, on.reward],
        [off.observation, off.privileged, off.reward], "final rows with auto-reset and last rows without",
    )  # fmt: skip
    _same(case, [off.final_observation], [off.observation], "final and plain rows, no auto-reset")
    expect(not np.array_equal(on.observation, off.observation), "no new episode was started")
    return seen


def no_auto_reset(case: Case) -> str:
    """Without auto-reset time goes on after the limit."""
    simulator = case.make(N, episode_steps=4, auto_reset=False)
    simulator.reset(0)
    ends = [bool(simulator.step(m).truncated.all()) for m in random_actions(case, N, 7, 0.01)]
    expect(ends == [False] * 3 + [True] * 4, f"truncated is {ends} in 7 steps of a limit of 4")
    return "stays truncated"


def one_fails_alone(case: Case) -> str:
    """A failure terminates, and starts that environment anew and no other."""
    simulator, action = case.failing(N)
    simulator.reset(0)
    t, step = simulator.step(action), 0
    while not t.terminated.any() and step < 80:
        t, step = simulator.step(action), step + 1
    alone = [True] + [False] * (N - 1)
    expect(t.terminated.tolist() == alone, f"terminated is {t.terminated.tolist()} at step {step}")
    expect(not t.truncated.any(), "truncated as well")
    expect(
        not np.array_equal(t.observation[0], t.final_observation[0]),
        "environment 0 was not started anew",
    )
    for now, final in ((t.observation, t.final_observation), (t.privileged, t.final_privileged)):
        expect(np.isfinite(final).all(), "final rows are not finite")
        expect(np.array_equal(now[1:], final[1:]), "other environments were started anew")
    return f"at step {step}"


def environments_are_apart(case: Case) -> str:
    """What is done to environment 0 does not show in the others."""
    moves = random_actions(case, N, 15, 0.1)
    a = _run(case.make(N), moves)
    moves[:, 0] = 2.0 * case.rest - moves[:, 0]
    b = _run(case.make(N), moves)
    expect(not np.array_equal(a[-2][0], b[-2][0]), "other actions change nothing")
    return _same(case, [x[1:] for x in a], [x[1:] for x in b], "the others")


def one_environment(case: Case) -> str:
    """One is enough."""
    simulator = case.make(1, episode_steps=3)
    shape = simulator.reset(0).shape
    expect(shape[0] == 1, f"reset gives the shape {shape}")
    ends = [bool(simulator.step(m).truncated[0]) for m in random_actions(case, 1, 6, 0.01)]
    expect(ends == [False, False, True] * 2, f"truncated is {ends} with a limit of 3")
    return ""


def actions_are_clipped(case: Case) -> str:
    """Actions beyond one count as one."""
    seen = []
    for size in (9.0, 1.0):
        simulator = case.make(N)
        simulator.reset(0)
        t = simulator.step(np.full((N, case.n_actions), size, np.float32))
        seen.append(_arrays(t))
    return _same(case, *seen, what="actions of 9 and of 1")


def bad_actions_are_refused(case: Case) -> str:
    """NaN, infinity and wrong shapes are refused with an error, and change nothing."""
    good = np.full((N, case.n_actions), case.rest, np.float32)
    nan, infinite = good.copy(), good.copy()
    nan[1, 2], infinite[2, 0] = np.nan, np.inf
    bad = {
        "NaN": nan,
        "infinity": infinite,
        "too few rows": good[:2],
        "too few columns": good[:, :2],
    }
    seen = []
    for what in ({}, bad):
        simulator = case.make(N)
        simulator.reset(0)
        for name, action in what.items():
            try:
                simulator.step(action)
            except AlulaError as e:
                expect("action" in str(e), f"the error on {name} does not name the action: {e}")
            else:
                raise CheckFailed(f"{name} was taken as an action")
        seen.append(_arrays(simulator.step(good)))
    return _same(case, *seen, what="with and without bad actions between")


def no_environments(case: Case) -> str:
    """No environments are refused."""
    try:
        case.make(0)
    except AlulaError as e:
        expect("n_envs is 0" in str(e), f"the error does not name n_envs: {e}")
    else:
        raise CheckFailed("0 environments were taken")
    return ""


COMMON: tuple[Callable[[Case], str], ...] = (
    shapes_and_types, same_seed, reset_forgets, seeds_differ, time_limit, final_observation, no_auto_reset,
    one_fails_alone, environments_are_apart, one_environment, actions_are_clipped, bad_actions_are_refused,
    no_environments,
)  # fmt: skip
"""For every simulator."""
