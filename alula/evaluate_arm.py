"""What `alula evaluate` does with an arm's policy: episodes, other physics, the report, and words for them."""

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from alula.command_base import Outcome
from alula.errors import AlulaError
from alula.evaluate import failed, whom
from alula.evaluation import arm_evaluate
from alula.evaluation.arm_episodes import Episodes
from alula.evaluation.arm_evaluate import ArmEvaluation, ArmSimName, gap
from alula.evaluation.arm_figures import shown
from alula.evaluation.arm_report import write_arm_report
from alula.evaluation.arm_study import ArmStudy, run_arm_study
from alula.options import Evaluate
from alula.policies.onnx_file import Policy
from alula.robots.arm import Arm
from alula.run_folder import RESULT, run_folder, write_json
from alula.training.run import METRICS

REPORT = "report.html"
PHYSICS: dict[ArmSimName, str] = {
    "mujoco": "as trained",
    "mujoco-other": "other physics",
    "mujoco-warp": "MuJoCo Warp",
}


def evaluate_arm(command: Evaluate, policy: Policy, robot: Arm | None) -> Outcome:
    """Evaluate as the command says, with a bar for each part where somebody watches.

    Raises:
        AlulaError: unsuitable policy, robot or number, or a report's folder that is taken.
    """
    sim = command.sim or "mujoco"
    if sim == "multirotor":
        raise AlulaError(f"--sim multirotor is for multirotors; allowed here: {', '.join(PHYSICS)}")
    if command.lap is not None:
        raise AlulaError(
            f"lap is {command.lap}; allowed: with a policy of a multirotor that tracks"
        )
    with _Bars(enabled=sys.stderr.isatty()) as bars:
        if command.report is not None:
            return _report(command, policy, robot, command.report, bars)
        # What other physics change shows only beside the same episodes as trained.
        both = sim != "mujoco"
        runs = _runs(command, policy, robot, ("mujoco", sim) if both else ("mujoco",), bars)
    stopped = runs[-1][0].interrupted or len(runs) < 1 + both
    data = runs[-1][0].to_json() | {"interrupted": stopped}
    texts = [arm_text(e.to_json()) for e, _ in runs]
    if len(runs) == 2:
        changes = asdict(gap(runs[0][1], runs[1][1]))
        data |= {"as_trained": runs[0][0].to_json(), "gap": changes}
        texts.append(gap_text(changes))
    note = "what was finished is stated" if stopped else ""
    return Outcome(data=data, text="\n".join(texts), interrupted=note)


def _runs(
    command: Evaluate,
    policy: Policy,
    robot: Arm | None,
    sims: tuple[ArmSimName, ...],
    bars: "_Bars",
) -> list[tuple[ArmEvaluation, Episodes]]:
    """One after the other; on Ctrl-C as far as it came, if anything was finished."""
    runs: list[tuple[ArmEvaluation, Episodes]] = []
    try:
        for sim in sims:
            run = arm_evaluate.evaluate_arm(
                policy,
                name=str(command.policy),
                sim=sim,
                robot=robot,
                episodes=command.episodes,
                seed=command.seed,
                nominal=not command.randomized,
                other_robot=command.other_robot,
                told=partial(bars, PHYSICS[sim]),
            )
            runs.append(run)
            if run[0].interrupted:
                break
    except KeyboardInterrupt:
        if not runs:
            raise
    return runs


def _report(
    command: Evaluate, policy: Policy, robot: Arm | None, out: Path, bars: "_Bars"
) -> Outcome:
    """The same in all physics, the robustness map, and a page about it."""
    log = command.policy.parent / METRICS
    with run_folder(out, mark=REPORT, overwrite=command.overwrite) as folder:
        study = run_arm_study(
            policy,
            name=str(command.policy),
            robot=robot,
            episodes=command.episodes,
            seed=command.seed,
            other_robot=command.other_robot,
            note=bars,
        )
        write_arm_report(
            folder / REPORT,
            policy=policy,
            study=study,
            training_log=log if log.is_file() else None,
        )
        data = study.to_json() | {"report": str(out / REPORT)}
        write_json(folder / RESULT, data)
    note = f"what was finished is in {out}" if study.interrupted else ""
    return Outcome(data=data, text=_study_text(study, out / REPORT), interrupted=note)


class _Bars:
    """A bar on stderr for each part of the work, by its name; silent where not wanted."""

    def __init__(self, *, enabled: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
        self._bars = Progress(
            *columns, console=Console(stderr=True), transient=True, disable=not enabled
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "_Bars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done)


def arm_text(data: dict[str, Any]) -> str:
    """An arm's evaluation for people, with 95 % intervals."""
    low, high = data["success_interval"]
    lines = [
        f"{whom(data)}, task {data['task']}, {PHYSICS[data['sim']]}: "
        f"{data['episodes']} episodes of {data['steps'] * data['control_dt']:g} s",
        f"success           {data['success']:.2%} ({low:.2%} to {high:.2%})",
    ]
    for name, found in data["measures"].items():
        if found is not None:
            factor, unit = shown(name)
            parts = []
            for key, word in (("median", "median"), ("p95", "95th percentile")):
                low, high = (factor * v for v in found[f"{key}_interval"])
                parts.append(f"{word} {factor * found[key]:.2f} {unit} ({low:.2f} to {high:.2f})")
            # At least one space, also after the longest name
            lines.append(f"{name + ' at the end':17} {', '.join(parts)}")
    low, high = data["episode_return_interval"]
    lines.append(f"return            {data['episode_return']:.2f} ({low:.2f} to {high:.2f})")
    return "\n".join([*lines, *failed(data)])


def gap_text(changes: dict[str, Any]) -> str:
    """What other physics change, for people."""
    low, high = changes["success_interval"]
    parts = [f"success {changes['success']:+.2%} ({low:+.2%} to {high:+.2%})"]
    for name, change in changes["measures"].items():
        if change is not None:
            factor, unit = shown(name)
            mean, (low, high) = change
            parts.append(
                f"mean {name} {factor * mean:+.3f} {unit} ({factor * low:+.3f} to {factor * high:+.3f})"
            )
    return f"change            {'; '.join(parts)}"


def _study_text(study: ArmStudy, report: Path) -> str:
    texts = [arm_text(e.to_json()) for e, _ in study.runs]
    if study.gap is not None:
        texts.insert(2, gap_text(asdict(study.gap)))
    return "\n".join([*texts, f"report            {report}"])
