"""A sweep: many training runs of one preset, what is chosen by some seeds, and what other seeds say of the choice.

The folder holds the request (`sweep.json`, never changed), the robot file, one folder a run, as `alula train` leaves
them, and the tables. All that a sweep decides follows from the request and the results in it, so the same command goes
on wherever an earlier one was stopped.

Seeds: what is chosen is trained with seeds from 0 and evaluated with seeds from 10000; what is stated is trained with
seeds from 1000 and evaluated with seeds from 20000. Evaluations draw other numbers than any training.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from alula.command_base import Outcome
from alula.errors import AlulaError
from alula.policies.files import write_files
from alula.presets import Preset
from alula.run_folder import RESULT
from alula.settings import grid, with_settings
from alula.sweep.options import Sweep
from alula.sweep.request import SweepConfig, claim, default_sweep_folder, locked
from alula.sweep.run import SweepRun, do_run, json_file, reached, result_of, score_of
from alula.sweep.table import Row, row_of, run_row, sweep_text, to_csv
from alula.training.population import (
    LOST,
    Member,
    Score,
    first_generation,
    lineage,
    next_generation,
    ranked,
)
from alula.training.run import CHECKPOINT
from alula.training.scale import ray_session, require_ray, run_all

TUNING_SEED, TEST_SEED = 0, 1000
"""First training seeds of the runs that are chosen from, and of those that are stated."""
TUNING_EVALUATION_SEED, TEST_EVALUATION_SEED = 10_000, 20_000
"""First evaluation seeds of the same."""
MAX_WORKERS = 4096


def sweep_command(command: Sweep, preset: Preset, settings: dict[str, list[Any]]) -> Outcome:
    """What `alula sweep` does, with the settings that `--set` names."""
    if command.search == "population":
        # One value is not searched: it is the same for all members.
        fixed = {name: values[0] for name, values in settings.items() if len(values) == 1}
        preset = with_settings(preset, fixed)
        settings = {name: values for name, values in settings.items() if name not in fixed}
    config = SweepConfig(
        preset=preset,
        robot=command.robot or preset.robot,
        seeds=command.seeds,
        settings=settings,
        search=command.search,
        tuning_seeds=command.tuning_seeds,
        population=command.population,
        generations=command.generations,
        episodes=command.episodes,
        randomized=command.randomized,
    )
    data, text = sweep(
        config,
        out=command.out or default_sweep_folder(config),
        workers=command.workers,
        address=command.address,
        checkpoint_every_s=command.checkpoint_every_s,
        dashboard=command.dashboard,
        progress=sys.stderr.isatty(),
    )
    return Outcome(data=data, text=text, failures=tuple(data["failed"]))


def sweep(
    config: SweepConfig,
    *,
    out: Path,
    workers: int | None = None,
    address: str | None = None,
    checkpoint_every_s: float = 0.0,
    dashboard: bool = False,
    progress: bool = False,
) -> tuple[dict[str, Any], str]:
    """Do all runs that are not done yet; the result as JSON values and as text.

    Args:
        config: the request.
        out: a new folder, or that of the same request.
        workers: most runs at once; None: one for each core.
        address: of a Ray cluster whose machines all see `out`; None: this machine alone.
        checkpoint_every_s: least time between two checkpoints of a run [s]; 0: after every update.
        dashboard: Ray's dashboard, on this machine's loopback interface.
        progress: show a progress bar on stderr.

    Raises:
        AlulaError: `out` holds something else or is in use, or the session's own.
        KeyboardInterrupt: passed on, after everything has been stopped; says how to go on.
    """
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise AlulaError(f"workers is {workers}; allowed: 1 to {MAX_WORKERS}")
    if not 0.0 <= checkpoint_every_s <= 1e6:
        raise AlulaError(f"checkpoint_every_s is {checkpoint_every_s}; allowed: 0 to 1e6")
    out = Path(os.path.abspath(out))
    if not (out / RESULT).is_file():
        require_ray()
    claim(out, config)
    if (finished := _finished(out)) is not None:
        return finished, sweep_text(finished)
    try:
        with locked(out), ray_session(
            workers=workers, address=address, dashboard=dashboard
        ) as (ray, count):  # fmt: skip
            going = _Sweep(config, out, ray, count, checkpoint_every_s, progress)
            rows, chosen = going.search()
            return going.state(rows, chosen)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the same command goes on from there ({out})") from None


class _Sweep:
    """A sweep at work."""

    def __init__(
        self,
        config: SweepConfig,
        out: Path,
        ray: ModuleType,
        workers: int,
        checkpoint_every_s: float,
        progress: bool,
    ) -> None:
        self.config, self.out, self._ray, self._workers = config, out, ray, workers
        self._every, self._progress = checkpoint_every_s, progress
        self.failed: list[str] = []

    def search(self) -> tuple[list[Row], list[list[dict[str, Any]]]]:
        """What led to the choice, as rows, and the schedules chosen: settings of each part of a training."""
        if self.config.search == "population":
            return self._population()
        c, points = self.config, grid(self.config.settings)
        if len(points) == 1 or c.tuning_seeds == 0:
            return [], [[point] for point in points]
        runs = [
            self._run(f"tuning/{i:03}-seed-{seed}", point, seed, TUNING_EVALUATION_SEED + k)
            for i, point in enumerate(points)
            for k, seed in enumerate(self._seeds(TUNING_SEED, c.tuning_seeds))
        ]
        results = self._do("choosing", runs)
        groups = [results[i * c.tuning_seeds :][: c.tuning_seeds] for i in range(len(points))]
        self._complete()
        best = self._best([_mean_score(group) for group in groups])
        return [_row(p, g) for p, g in zip(points, groups, strict=True)], [[points[best]]]

    def _population(self) -> tuple[list[Row], list[list[dict[str, Any]]]]:
        c = self.config
        members = first_generation(c.ranges, c.population, TUNING_SEED)
        generations: list[list[Member]] = [members]
        scores: list[Score] = []
        results: list[Row | None] = []
        before: list[SweepRun] = []
        best = 0
        for g in range(c.generations):
            if g:
                members = next_generation(members, scores, c.ranges, TUNING_SEED, g)
                generations.append(members)
            runs = [
                self._run(
                    f"population/{g:03}-member-{i:03}", member.settings, TUNING_SEED + i,
                    # every generation in fresh episodes, the same for all members
                    TUNING_EVALUATION_SEED + g, part=g, parts=c.generations,
                    parent=None if member.parent is None else before[member.parent].folder,
                )
                for i, member in enumerate(members)
            ]  # fmt: skip
            results = self._do(f"generation {g + 1}/{c.generations}", runs)
            self._complete()
            scores = [_mean_score([r]) for r in results]
            best = self._best(scores)
            _forget(before)
            before = runs
        _forget(before)
        rows = [_row(m.settings, [r]) for m, r in zip(members, results, strict=True)]
        return rows, [lineage(generations, best)]

    def state(
        self, tuning: list[Row], chosen: list[list[dict[str, Any]]]
    ) -> tuple[dict[str, Any], str]:
        """Train what was chosen with fresh seeds, and write and return what that says."""
        c, groups, done = self.config, [], []
        # Part by part; the parts of a grid's training are one.
        for part in range(len(chosen[0])):
            runs = [
                self._run(
                    self._test_folder(i, seed, part, len(schedule)), schedule[part], seed,
                    TEST_EVALUATION_SEED + k if part == len(schedule) - 1 else None,
                    part=part, parts=len(schedule),
                    parent=self.out / self._test_folder(i, seed, part - 1, len(schedule)) if part else None,
                )
                for i, schedule in enumerate(chosen)
                for k, seed in enumerate(self._seeds(TEST_SEED, c.seeds))
            ]  # fmt: skip
            results = self._do("stating", runs)
            groups = [results[i * c.seeds :][: c.seeds] for i in range(len(chosen))]
            done += runs
        if not self.failed:
            _forget(done)
        table = [_row(s[-1], group) for s, group in zip(chosen, groups, strict=True)]
        each = [run_row(r) for group in groups for r in group if r is not None]
        data: dict[str, Any] = {
            "preset": c.preset.name, "out": str(self.out), "search": c.search, "table": table, "runs": each,
            "chosen_by": tuning, "schedules": chosen, "seeds": self._seeds_used(bool(tuning)),
            "failed": self.failed,
        }  # fmt: skip
        files = {"table.csv": to_csv(table), "runs.csv": to_csv(each)}
        if tuning:
            files["tuning.csv"] = to_csv(tuning)
        files[RESULT] = json.dumps(data, indent=2) + "\n"
        write_files(self.out, {k: v.encode() for k, v in files.items()}, overwrite=True)
        return data, sweep_text(data)

    def _seeds_used(self, chosen: bool) -> dict[str, Any]:
        c = self.config
        population = c.search == "population"
        tuned = c.population if population else c.tuning_seeds
        evaluated = c.generations if population else c.tuning_seeds
        stated = {
            "training": _span(TEST_SEED, c.seeds),
            "evaluation": _span(TEST_EVALUATION_SEED, c.seeds),
        }
        if not chosen:
            return {"stated_with": stated}
        tuning = {
            "training": _span(TUNING_SEED, tuned),
            "evaluation": _span(TUNING_EVALUATION_SEED, evaluated),
        }
        return {"chosen_with": tuning, "stated_with": stated}

    def _run(
        self,
        folder: str,
        settings: dict[str, Any],
        seed: int,
        evaluation_seed: int | None,
        *,
        part: int = 0,
        parts: int = 1,
        parent: Path | None = None,
    ) -> SweepRun:
        preset = with_settings(self.config.preset, settings)
        return SweepRun(
            folder=self.out / folder,
            sweep=self.out,
            preset=preset,
            settings=settings,
            seed=seed,
            until=round(preset.algo.updates * (part + 1) / parts),
            parent=parent,
            evaluation_seed=evaluation_seed,
            episodes=self.config.episodes,
            randomized=self.config.randomized,
            checkpoint_every_s=self._every,
        )

    def _complete(self) -> None:
        """Nothing is chosen from a part of the results.

        Raises:
            AlulaError: a run is missing.
        """
        if self.failed:
            raise AlulaError(
                f"{len(self.failed)} runs could not be finished, so nothing is chosen; the same command tries them "
                f"again; the first: {self.failed[0]}"
            )

    def _best(self, scores: list[Score]) -> int:
        best = ranked(scores)[0]
        if scores[best] == LOST:
            raise AlulaError(f"no training came to an end; {self.out} has the reasons")
        return best

    def _do(self, what: str, runs: list[SweepRun]) -> list[Row | None]:
        """Results of runs, None for those that could not be finished."""
        left = [run for run in runs if result_of(run) is None]
        with _Bar(what, runs, enabled=self._progress) as bar:
            lost = run_all(
                self._ray,
                left,
                do_run,
                workers=self._workers,
                reached=reached,
                look=bar.look,
                lost=bar.lost,
            )
        self.failed += [
            f"{left[i].folder.relative_to(self.out)}: {why}" for i, why in sorted(lost.items())
        ]
        return [result_of(run) for run in runs]

    def _test_folder(self, point: int, seed: int, part: int, parts: int) -> str:
        name = f"test/{point:03}-seed-{seed}"
        return name if parts == 1 else f"{name}/part-{part:03}"

    def _seeds(self, first: int, n: int) -> range:
        return range(first, first + n)


class _Bar:
    """A progress bar on stderr over the updates of some runs; silent where not wanted."""

    def __init__(self, what: str, runs: Sequence[SweepRun], *, enabled: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._done = {run.folder: reached(run) for run in runs} if enabled else {}
        self._busy: list[SweepRun] = []
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} updates, {task.fields[busy]} at work"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not enabled,
        )  # fmt: skip
        self._enabled = enabled
        self._task = self._bar.add_task(
            f"{what}, {len(runs)} runs", total=sum(r.until for r in runs), busy=0,
            completed=sum(self._done.values()),
        )  # fmt: skip

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def look(self, busy: Sequence[SweepRun]) -> None:
        """Show what the runs at work, and those that were a moment ago, have reached."""
        if self._enabled:
            self._done |= {run.folder: reached(run) for run in (*self._busy, *busy)}
            self._busy = list(busy)
            self._bar.update(self._task, completed=sum(self._done.values()), busy=len(busy))

    def lost(self, run: SweepRun, done: int) -> None:
        """Say that a run has lost its worker."""
        name = run.folder.relative_to(run.sweep)
        self._bar.console.print(f"alula: {name} lost its worker at update {done}", highlight=False)


def _finished(out: Path) -> dict[str, Any] | None:
    """The result of a sweep that has all of it already."""
    data = json_file(out / RESULT)
    return None if data is None or data["failed"] else data


def _forget(runs: Sequence[SweepRun]) -> None:
    """Remove checkpoints that nothing goes on from any more."""
    for run in runs:
        (run.folder / CHECKPOINT).unlink(missing_ok=True)


def _mean_score(results: Sequence[Row | None]) -> Score:
    """Mean over seeds; what failed with any of them is not chosen."""
    scores = [LOST if r is None else score_of(r) for r in results]
    if LOST in scores:
        return LOST
    return tuple(sum(x) / len(scores) for x in zip(*scores, strict=True))


def _row(settings: dict[str, Any], results: Sequence[Row | None]) -> Row:
    return row_of(settings, [r for r in results if r is not None])


def _span(first: int, n: int) -> str:
    return f"{first} to {first + n - 1}" if n > 1 else str(first)
