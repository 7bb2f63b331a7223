"""What workers are worth: two beside one, measured, and many by a model of what was measured.

One update of W workers, each with n environments of its own, T steps long, takes by the model::

    t(W) = t_1 + sum over messages of 2 (W - 1) alpha + beta b
    rate(W) = W n T / t(W),   speed-up(W) = W t_1 / t(W)

with t_1 the time of one worker alone with n environments, b the bytes of a message, alpha the time in which the first
worker hears of another one and tells it, with what a message costs however short, and beta the time of a byte: each
worker reads and writes it three times, however many there are (`training/shared_memory.py`). t_1, the messages and alpha
and beta are measured here, so the model is of one machine with a core for each worker, and memory that is as fast for each
of many as for each of two. Waiting for the slowest of many is not in it.
"""

import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from alula.bench import check_repeats
from alula.build import Robot, build_learner, build_robot
from alula.build_workers import build_share
from alula.errors import AlulaError
from alula.machine import processor_name
from alula.presets import Preset
from alula.training.config import PpoConfig

WARM_UP = 2
"""Updates before the first that counts."""
MESSAGE_BYTES = tuple(4 * 4**k for k in range(11))
"""Sizes of the messages that are timed, 4 B to 4 MiB."""
MESSAGE_REPEATS = 200
MODELLED = (2, 4, 8, 16, 32, 64)
"""Numbers of workers that the model is asked for."""
TWO = {
    "two_workers": "two workers",
    "two_workers_twice_the_environments": "as many each",
    "two_workers_without_messages": "no messages",
}
"""What two workers are measured with, and what people are told it is."""


class Counted:
    """Workers whose messages are counted on the way."""

    def __init__(self, workers: Any) -> None:
        self.workers, self.rank, self.count = workers, workers.rank, workers.count
        self.sizes: list[int] = []
        """Bytes of each message."""

    def average(self, x: Any) -> Any:
        """As of the workers."""
        self.sizes.append(x.numel() * x.element_size())
        return self.workers.average(x)


def bench_scale(preset: Preset, *, repeats: int) -> dict[str, Any]:
    """Updates of a preset by one worker and by two, each on one core with one thread, and the model for more.

    The two have the environments of the one between them, as with `alula train --workers 2`, then as many each, and then
    as many each without a word between them: what the machine's two cores do at most.

    Raises:
        AlulaError: a preset of another learner, fewer than two cores, or repeats out of range.
    """
    algo = preset.algo
    if not isinstance(algo, PpoConfig):
        raise AlulaError(f"preset {preset.name}; allowed: one that learns by PPO")
    check_repeats(repeats)
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        raise AlulaError(f"this process may use {cores} core; allowed: at least two")
    load = os.getloadavg()[0]
    long = replace(preset, algo=replace(algo, updates=10_000))
    twice = replace(long, algo=replace(long.algo, n_envs=2 * algo.n_envs))
    made = {
        "one_worker": partial(_alone, long),
        "two_workers": partial(_two, long, build_share),
        "two_workers_twice_the_environments": partial(_two, twice, build_share),
        "two_workers_without_messages": partial(_two, twice, _silent_share),
    }
    rates, sizes = _rates(made, repeats)
    one = rates["one_worker"]
    with _cores(2):
        from alula.training.distributed import message_seconds

        messages = message_seconds(MESSAGE_BYTES, MESSAGE_REPEATS)
    alpha, beta = fit_messages(messages)
    steps = algo.n_envs * algo.rollout_steps
    return {
        "preset": preset.name,
        "hardware": {**_hardware(), "cores_used": 2, "load_before": load},
        "sizes": {
            "n_envs": algo.n_envs, "rollout_steps": algo.rollout_steps, "epochs": algo.epochs,
            "minibatches": algo.minibatches, "hidden": algo.hidden, "critic_hidden": algo.critic_hidden,
        },
        "control_dt_s": preset.sim.control_dt,
        "physics_dt_s": preset.sim.control_dt / preset.sim.substeps,
        "precision": "float32 networks; float64 physics of arms, float32 of multirotors",
        "warm_up_updates": WARM_UP,
        "repeats": repeats,
        **rates,
        "speed_up": {name: rates[name]["times_one"] for name in TWO},
        "messages": {
            "of_an_update": len(sizes), "bytes_of_an_update": sum(sizes), "largest_bytes": max(sizes),
            "seconds_by_bytes": messages, "alpha_s": alpha, "beta_s_per_byte": beta,
        },
        "model": {
            "measured": False,
            "formula": "t(W) = t_1 + sum 2 (W - 1) alpha + beta bytes; rate = W n T / t(W)",
            "t_1_s": one["update_s"],
            "workers": modelled(one["update_s"], steps, sizes, alpha, beta),
        },
    }  # fmt: skip


def fit_messages(messages: Mapping[int, float]) -> tuple[float, float]:
    """Alpha [s] and beta [s/byte] of 2 alpha + beta b, which two workers' messages of b bytes take.

    The relative errors are made small, so that short messages count as much as long ones; neither is below zero.
    """
    size = np.array(list(messages), np.float64)
    seconds = np.array(list(messages.values()))
    rows = np.stack([np.full_like(size, 2.0), size], 1) / seconds[:, None]
    alpha, beta = np.linalg.lstsq(rows, np.ones(len(size)), rcond=None)[0]
    return max(float(alpha), 0.0), max(float(beta), 0.0)


def modelled(
    alone_s: float, steps: int, sizes: Sequence[int], alpha: float, beta: float
) -> list[dict[str, float]]:
    """Rate and speed-up of MODELLED workers by the formula above.

    Args:
        alone_s: an update of one worker [s].
        steps: environment steps in it, n T.
        sizes: bytes of its messages.
        alpha: time of a message however short [s].
        beta: time of a byte [s].
    """
    table = []
    for w in MODELLED:
        messages = 2 * (w - 1) * alpha * len(sizes) + beta * sum(sizes)
        seconds = alone_s + messages
        table.append(
            {
                "workers": w,
                "env_steps_per_s": w * steps / seconds,
                "speed_up": w * alone_s / seconds,
                "share_of_messages": messages / seconds,
            }
        )
    return table


def scale_text(data: dict[str, Any]) -> str:
    """The result for people."""
    most = data["model"]["workers"][-1]
    messages = data["messages"]
    return "\n".join(
        [
            f"{data['preset']}, {data['sizes']['n_envs']} environments, a core and a thread for each worker, "
            f"{data['repeats']} updates",
            f"one worker    {_steps(data['one_worker'])}",
            *(
                f"{name:14}{_steps(data[key])}: {_times(data[key])} times one"
                for key, name in TWO.items()
            ),
            f"messages      {messages['of_an_update']} an update, the largest {messages['largest_bytes']} bytes; "
            f"{2e6 * messages['alpha_s']:.0f} us, {1e-9 / max(messages['beta_s_per_byte'], 1e-15):.2f} GB/s",
            f"by the model, not measured: {most['workers']} workers on a core each {most['speed_up']:.1f} times one",
        ]
    )


def _times(row: dict[str, float]) -> str:
    """Times one, with the quartiles over pairs of updates."""
    return (
        f"{row['times_one']:.2f} ({row['times_one_lower_quartile']:.2f} to "
        f"{row['times_one_upper_quartile']:.2f})"
    )


def _steps(row: dict[str, float]) -> str:
    return (
        f"{row['env_steps_per_s']:.0f} steps/s "
        f"({row['env_steps_per_s_min']:.0f} to {row['env_steps_per_s_max']:.0f})"
    )


def _silent_share(preset: Preset, robot: Robot, seed: int, workers: Any) -> Any:
    """As `build_share`, of a worker that says nothing to the others and learns alone."""
    from alula.training.layers import Alone

    silent = Alone()
    silent.rank, silent.count = workers.rank, workers.count
    return build_share(preset, robot, seed, silent)


def _alone(preset: Preset) -> Any:
    return build_learner(preset, build_robot(preset), 0, 1)


def _two(preset: Preset, share: Callable[..., Any]) -> Any:
    from alula.training.distributed import DataParallelPpo

    return DataParallelPpo(partial(share, preset, build_robot(preset), 0), 2)


def _rates(
    made: Mapping[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, dict[str, float]], list[int]]:
    """Environment steps per second of each learner, and the bytes of the messages of an update of two workers.

    Each learner lives in a process of its own and waits there for its turn. They take turns update by update, so that a
    busy neighbour disturbs all alike.
    """
    from rich.console import Console
    from rich.progress import track

    from alula.training.distributed import start_deaf

    context, told = multiprocessing.get_context("spawn"), Console(stderr=True)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    steps, sizes = dict.fromkeys(made, 0), []
    pipes = {}
    try:
        for name, make in made.items():
            pipes[name], theirs = context.Pipe()
            # Ctrl-C is for this process; the others end when nobody holds their pipe any more.
            cores = 2 if name in TWO else 1
            start_deaf(context.Process(target=_serve, args=(make, cores, theirs)))
            theirs.close()
        for k in track(range(WARM_UP + repeats), "updates", console=told, transient=True):
            for name, pipe in pipes.items():
                pipe.send("update")
                took, steps[name], said = pipe.recv()
                if k >= WARM_UP:
                    seconds[name].append(took)
                if name == "two_workers":
                    sizes = said
    except (EOFError, OSError):
        raise AlulaError("a measured process has ended") from None
    finally:
        for pipe in pipes.values():
            pipe.close()
    one = np.array(seconds["one_worker"])
    rates = {}
    for name, times in seconds.items():
        rate = steps[name] / np.array(times)
        low, middle, high = np.quantile(rate / (steps["one_worker"] / one), (0.25, 0.5, 0.75))
        rates[name] = {
            "update_s": statistics.median(times),
            "env_steps_per_s": float(np.median(rate)),
            "env_steps_per_s_min": float(rate.min()),
            "env_steps_per_s_max": float(rate.max()),
            "times_one": float(middle),
            "times_one_lower_quartile": float(low),
            "times_one_upper_quartile": float(high),
        }
    return rates, sizes


def _serve(make: Callable[[], Any], cores: int, pipe: Connection) -> None:
    """Make a learner and do an update whenever told: its seconds, environment steps, and bytes of its messages."""
    with _cores(cores):
        learner = make()
        inner = getattr(learner, "learner", learner)
        inner.workers = counted = Counted(inner.workers)
        try:
            while pipe.recv():
                counted.sizes.clear()
                before, start = learner.env_steps, time.perf_counter()
                learner.update()
                pipe.send((time.perf_counter() - start, learner.env_steps - before, counted.sizes))
        except (EOFError, BrokenPipeError):
            return
        finally:
            if inner is not learner:
                learner.close()


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """So many cores for this process and those that it starts; workers share theirs, a thread each."""
    from alula.training.distributed import threads_of_torch

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        with threads_of_torch(1):
            yield
    finally:
        os.sched_setaffinity(0, before)


def _hardware() -> dict[str, Any]:
    return {
        "cpu": processor_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "mujoco": version("mujoco"),
    }
