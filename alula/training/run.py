"""A training run: the learner's loop, and what it leaves in its folder.

`config.json` (the resolved preset), `metrics.csv` (one row an update), `checkpoint.npz` (everything needed to go
on, plain arrays only) and `policy.onnx`. On Ctrl-C the best actor so far becomes the policy and the checkpoint
stays, so that the run can be resumed.
"""

import csv
import io
import json
import signal
import subprocess
import threading
import time
from collections import deque
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

import alula
from alula.build import Robot, build_contract, build_learner, build_robot, build_task
from alula.build_workers import build_workers
from alula.errors import AlulaError
from alula.policies.files import write_files
from alula.policies.network import Network
from alula.policies.onnx_file import write_policy
from alula.presets import Preset
from alula.run_folder import CHECKPOINT, CONFIG, POLICY
from alula.training.learner import Learner, Statistics

METRICS = "metrics.csv"
CHECKPOINT_EVERY_S = 10.0
MAX_CHECKPOINT_BYTES = 1_000_000_000
SMOOTHING = 10
"""Updates whose mean cost decides which actor was the best so far; before there are so many it is the newest."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished run made and what it took."""

    policy_path: Path
    """The policy file."""
    train_s: float
    """Wall-clock time of the updates alone [s]."""
    setup_s: float
    """Wall-clock time before them: kernels (compiled or loaded), arrays, first episodes [s]."""
    env_steps: int
    """Policy steps flown by all environments together."""
    updates: int
    """Updates of the actor."""
    diverged: int
    """Episodes in which physics diverged, and which were begun anew (see `Learner.diverged`)."""
    network: Network
    """The actor."""
    history: list[Statistics]
    """One entry an update, those before a resume included."""


def train(
    preset: Preset,
    *,
    robot: Robot | None = None,
    seed: int = 0,
    out: Path,
    progress: bool = False,
    resume: Path | None = None,
    until: int | None = None,
    checkpoint_every_s: float | None = None,
    workers: int = 1,
    threads: int | None = None,
) -> TrainingResult:
    """Train a policy and write it to `out`.

    Args:
        preset: what to train.
        robot: the preset's own by default.
        seed: seeds networks, vehicles, disturbances and noise. The result is the same for any number of threads.
        out: an existing folder, written into.
        progress: show a progress bar on stderr.
        resume: folder of an interrupted run with the same preset, robot and seed.
        until: stop after this many updates instead of the preset's, with a checkpoint to go on from.
        checkpoint_every_s: least time between two checkpoints [s], CHECKPOINT_EVERY_S by default; 0 writes one after
            every update.
        workers: processes that share the environments (see `build_workers`).
        threads: of the simulation, in one process; None: one for each core.

    Raises:
        AlulaError: the robot does not fit, `out` cannot be written, or `resume` does not fit.
        KeyboardInterrupt: passed on, after the best policy so far has been written.
    """
    robot = robot or build_robot(preset)
    started = time.perf_counter()
    if workers == 1:
        learner = build_learner(preset, robot, seed, threads)
    else:
        learner = build_workers(preset, robot, seed, workers)
    config = resolved_config(preset, robot, seed, workers)
    history = [] if resume is None else _resume(learner, resume / CHECKPOINT, config)
    write_files(out, {CONFIG: config.encode()}, overwrite=True)
    begun = time.perf_counter()
    every = CHECKPOINT_EVERY_S if checkpoint_every_s is None else checkpoint_every_s
    run = _Run(learner, preset, robot, seed, out, config, history, every)
    total = preset.algo.updates if until is None else min(until, preset.algo.updates)
    try:
        with _ProgressBar(preset, enabled=progress) as bar, _HeldSignals() as held:
            while learner.updates_done < total:
                run.update(bar)
                held.deliver()
    except KeyboardInterrupt:
        if run.best is not None:
            run.finish(run.best, interrupted=True)
        raise
    train_s = time.perf_counter() - begun
    network = learner.network()
    run.finish(network, interrupted=False, train_s=train_s)
    return TrainingResult(
        policy_path=out / POLICY,
        train_s=train_s,
        setup_s=begun - started,
        env_steps=learner.env_steps,
        updates=learner.updates_done,
        diverged=learner.diverged,
        network=network,
        history=run.history,
    )


def resolved_config(preset: Preset, robot: Robot, seed: int, workers: int = 1) -> str:
    """Everything that decides the result of a run, as JSON text."""
    table = {
        "preset": asdict(preset),
        "robot": {"name": robot.name, "hash": robot.hash},
        "seed": seed,
        "version": alula.__version__,
    }
    if workers != 1:
        table["workers"] = workers
    return json.dumps(table, indent=2, sort_keys=True) + "\n"


class _Run:
    """One run's learner, its log and its best actor."""

    def __init__(
        self,
        learner: Learner,
        preset: Preset,
        robot: Robot,
        seed: int,
        out: Path,
        config: str,
        history: list[Statistics],
        checkpoint_every_s: float,
    ) -> None:
        self.learner, self.preset, self.robot = learner, preset, robot
        self.seed, self.out, self.config = seed, out, config
        self.history = history
        # A checkpoint may follow every update, and astuple is slow.
        self._rows = [astuple(row) for row in history]
        self.best: Network | None = None
        self._best_cost = float("inf")
        self._recent: deque[float] = deque(maxlen=SMOOTHING)
        self._every = checkpoint_every_s
        self._saved = self._logged = time.perf_counter()

    def update(self, bar: "_ProgressBar") -> None:
        """One update, its log row, and now and then a checkpoint."""
        statistics = self.learner.update()
        self.history.append(statistics)
        self._rows.append(astuple(statistics))
        self._keep_best(statistics.cost)
        bar.show(self.learner.updates_done, statistics)
        if time.perf_counter() - self._saved >= self._every:
            # The log is rewritten as a whole: not each time, where that is often.
            log = time.perf_counter() - self._logged > CHECKPOINT_EVERY_S
            self.save(log=log, lasting=log or self._every > 0.0)
            self._saved = time.perf_counter()
            self._logged = self._saved if log else self._logged

    def _keep_best(self, cost: float) -> None:
        """The actor of the least mean cost, as soon as there is a mean of costs that can be compared; until then the newest."""
        if self.learner.settled:
            self._recent.append(cost)
        else:
            self._recent.clear()
        mean = sum(self._recent) / SMOOTHING
        compared = len(self._recent) == SMOOTHING
        if not compared or mean < self._best_cost:
            self.best = self.learner.network()
        if compared:
            self._best_cost = min(self._best_cost, mean)

    def save(self, *, log: bool = True, lasting: bool = True) -> None:
        """Write the checkpoint and, if `log`, the metrics; `lasting` as in `write_files`."""
        checkpoint = io.BytesIO()
        np.savez(
            checkpoint,
            allow_pickle=False,
            **{"config": np.array(self.config), "history": np.array(self._rows, np.float64)}
            | self.learner.snapshot(),
        )
        files = {METRICS: self._metrics().encode()} if log else {}
        files[CHECKPOINT] = checkpoint.getvalue()
        write_files(self.out, files, overwrite=True, lasting=lasting)

    def finish(self, network: Network, *, interrupted: bool, train_s: float | None = None) -> None:
        """Write log and policy; an unfinished run keeps its checkpoint too."""
        finished = not interrupted and self.learner.updates_done >= self.preset.algo.updates
        if finished:
            write_files(self.out, {METRICS: self._metrics().encode()}, overwrite=True)
        else:
            self.save()
        training: dict[str, Any] = {
            "seed": self.seed,
            "version": alula.__version__,
            "git_commit": git_commit(),
            "updates": self.learner.updates_done,
            "env_steps": self.learner.env_steps,
            "interrupted": interrupted,
        }
        if train_s is not None:
            training["train_s"] = round(train_s, 3)
        contract = build_contract(self.preset, self.robot, build_task(self.preset.task), training)
        write_policy(self.out / POLICY, network, contract, seed=self.seed, overwrite=True)
        if finished:
            (self.out / CHECKPOINT).unlink(missing_ok=True)

    def _metrics(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["update", *(f.name for f in fields(self.learner.statistics))])
        for i, row in enumerate(self._rows):
            writer.writerow([i + 1, *row])
        return text.getvalue()


def updates_saved(folder: Path) -> int | None:
    """Updates that the checkpoint in a folder has seen; None where there is none, or a damaged one."""
    try:
        with np.load(folder / CHECKPOINT, allow_pickle=False) as file:
            return len(file["history"])
    except Exception:  # as in read_checkpoint
        return None


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by name.

    Raises:
        AlulaError: it cannot be read, or is too large or damaged.
    """
    try:
        size = path.stat().st_size
    except OSError as e:
        raise AlulaError(f"checkpoint {path}: cannot be read: {e}") from None
    if size > MAX_CHECKPOINT_BYTES:
        raise AlulaError(f"checkpoint {path}: larger than {MAX_CHECKPOINT_BYTES} bytes")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as e:  # zipfile, zlib and NumPy each raise their own for a damaged file
        raise AlulaError(f"checkpoint {path}: damaged: {e}") from None


def _resume(learner: Learner, path: Path, config: str) -> list[Statistics]:
    if not path.is_file():
        raise AlulaError(f"nothing to resume: {path} does not exist")
    table = read_checkpoint(path)
    if "config" not in table:
        raise AlulaError(f"checkpoint {path}: damaged: it has no config")
    if str(table.pop("config")) != config:
        raise AlulaError(
            f"checkpoint {path}: made with another preset, settings (--set), robot, seed, workers or version; "
            "allowed: exactly the same"
        )
    learner.restore(table)
    return _history(table.get("history"), learner)


def _history(rows: np.ndarray | None, learner: Learner) -> list[Statistics]:
    kinds = {f.name: f.type for f in fields(learner.statistics)}
    shape = (learner.updates_done, len(kinds))
    if rows is None or rows.shape != shape or rows.dtype != np.float64:
        raise AlulaError("checkpoint does not fit: history")
    out = []
    for row in rows.tolist():
        values = dict(zip(kinds, row, strict=True))
        for name, kind in kinds.items():
            if kind is int:
                if not 0.0 <= values[name] < 1e9:
                    raise AlulaError("checkpoint does not fit: history")
                values[name] = int(values[name])
        out.append(learner.statistics(**values))
    return out


class _HeldSignals:
    """Holds interrupts back until `deliver`, so that what is saved is always a whole number of updates."""

    def __enter__(self) -> "_HeldSignals":
        self._pending: list[tuple[int, Any]] = []
        self._handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, lambda *caught: self._pending.append(caught))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self.deliver()

    def deliver(self) -> None:
        """Let the original handler see what has come in the meantime."""
        while self._pending:
            number, frame = self._pending.pop(0)
            self._handlers[number](number, frame)


class _ProgressBar:
    """A progress bar on stderr, redrawn at most ten times a second; silent where not wanted."""

    def __init__(self, preset: Preset, *, enabled: bool) -> None:
        self._bar = None
        if enabled:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("training {task.fields[name]}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} updates"),
                TextColumn("cost {task.fields[cost]:.3f}, {task.fields[note]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(
                "train", total=preset.algo.updates, name=preset.name, cost=0.0, note=""
            )

    def __enter__(self) -> "_ProgressBar":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, done: int, statistics: Statistics) -> None:
        """Show the latest update."""
        if self._bar:
            self._bar.update(self._task, completed=done, cost=statistics.cost, note=statistics.note)


def git_commit() -> str:
    """Commit of the checkout alula runs from; "unknown" where there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
