"""What `alula evaluate` does: fly a policy file, or move an arm by it, and say in words how it went."""

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from alula.build import is_arm_task, load_any_robot
from alula.errors import AlulaError
from alula.evaluation.arm_evaluate import ArmSimName, evaluate_arm, gap
from alula.evaluation.arm_figures import shown
from alula.evaluation.arm_report import write_arm_report
from alula.evaluation.arm_study import ArmStudy, run_arm_study
from alula.evaluation.evaluate import MAX_EPISODES, policy_task
from alula.evaluation.evaluate import evaluate as fly
from alula.options import Evaluate, Outcome
from alula.policies.onnx_file import Policy, load_policy
from alula.robots.arm import Arm
from alula.robots.multirotor import Multirotor
from alula.run_folder import RESULT, run_folder, write_json
from alula.training.run import METRICS

REPORT = "report.html"


def evaluate(command: Evaluate, robot_name: str | None) -> Outcome:
    """Evaluate as the command says; `robot_name` is a name or file, None the shipped robot of the policy.

    Raises:
        AlulaError: unreadable or unsuitable policy, robot or number, or a report's folder that is taken.
    """
    if not 1 <= command.episodes <= MAX_EPISODES:
        raise AlulaError(f"episodes is {command.episodes}; allowed: 1 to {MAX_EPISODES}")
    policy = load_policy(command.policy)
    robot = None if robot_name is None else load_any_robot(robot_name)
    if is_arm_task(policy_task(policy.contract)):
        if isinstance(robot, Multirotor):
            raise AlulaError(f"the policy is for an arm, not for {robot.name!r}; allowed: an arm")
        return _move(command, policy, robot)
    if isinstance(robot, Arm):
        raise AlulaError(f"the policy is for a multirotor, not for {robot.name!r}; allowed: one")
    sim = command.sim or "multirotor"
    if sim == "mujoco-other":
        raise AlulaError("--sim mujoco-other is for arms; allowed here: multirotor, mujoco")
    if command.report is not None:
        raise AlulaError(
            "--report is for arms; allowed for a multirotor: alula fly, which writes one"
        )
    evaluation, _ = fly(
        policy,
        name=str(command.policy),
        sim=sim,
        robot=robot,
        episodes=command.episodes,
        seed=command.seed,
        nominal=not command.randomized,
        lap=command.lap,
        traced=1,
        other_robot=command.other_robot,
    )
    data = evaluation.to_json()
    return Outcome(data=data, text=flight_text(data))


def _move(command: Evaluate, policy: Policy, robot: Arm | None) -> Outcome:
    """The evaluation of an arm's policy, with a bar for each part where somebody watches."""
    sim = command.sim or "mujoco"
    if sim == "multirotor":
        raise AlulaError("--sim multirotor is for multirotors; allowed here: mujoco, mujoco-other")
    with _Bars(enabled=sys.stderr.isatty()) as bars:
        if command.report is not None:
            return _report(command, policy, robot, command.report, bars)
        sims: tuple[ArmSimName, ...] = ("mujoco",)
        if sim == "mujoco-other":
            # What other physics change shows only beside the same episodes as trained.
            sims = ("mujoco", "mujoco-other")
        runs = []
        try:
            for part in sims:
                runs.append(
                    evaluate_arm(
                        policy,
                        name=str(command.policy),
                        sim=part,
                        robot=robot,
                        episodes=command.episodes,
                        seed=command.seed,
                        nominal=not command.randomized,
                        other_robot=command.other_robot,
                        told=partial(bars, _PHYSICS[part]),
                    )
                )
                if runs[-1][0].interrupted:
                    break
        except KeyboardInterrupt:
            if not runs:
                raise
    data = runs[-1][0].to_json()
    texts = [arm_text(e.to_json()) for e, _ in runs]
    if len(runs) == 2:
        changes = asdict(gap(runs[0][1], runs[1][1]))
        data |= {"as_trained": runs[0][0].to_json(), "gap": changes}
        texts.append(gap_text(changes))
    stopped = len(runs) < len(sims) or runs[-1][0].interrupted
    note = f"{data['episodes']} of {command.episodes} episodes" if stopped else ""
    return Outcome(data=data, text="\n".join(texts), interrupted=note)


def _report(
    command: Evaluate, policy: Policy, robot: Arm | None, out: Path, bars: "_Bars"
) -> Outcome:
    """The same in all physics, the robustness map, and a page about it."""
    log = command.policy.parent / METRICS
    with run_folder(out, overwrite=command.overwrite) as folder:
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


_PHYSICS = {"mujoco": "as trained", "mujoco-other": "other physics"}


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


def flight_text(data: dict[str, Any]) -> str:
    """A flight evaluation for people, with 95 % intervals."""
    physics = "MuJoCo" if data["sim"] == "mujoco" else "alula's physics"
    low, high = data["success_interval"]
    lines = [
        f"{_whom(data)}, task {data['task']}, in {physics}: "
        f"{data['episodes']} episodes of {data['steps'] * data['control_dt']:g} s",
        f"success           {data['success']:.2%} ({low:.2%} to {high:.2%})",
    ]
    for key, label in (
        ("hover_error", "mean error"),
        ("hover_error_p95", "95th percentile"),
        ("tracking_rmse", "tracking RMSE"),
    ):
        value, interval = data[f"{key}_m"], data[f"{key}_interval_m"]
        if value is not None:
            low, high = interval
            lines.append(f"{label:18}{100 * value:.2f} cm ({100 * low:.2f} to {100 * high:.2f})")
    return "\n".join([*lines, *_failed(data)])


def arm_text(data: dict[str, Any]) -> str:
    """An arm's evaluation for people, with 95 % intervals."""
    low, high = data["success_interval"]
    lines = [
        f"{_whom(data)}, task {data['task']}, {_PHYSICS[data['sim']]}: "
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
            lines.append(f"{name + ' at the end':18}{', '.join(parts)}")
    low, high = data["episode_return_interval"]
    lines.append(f"return            {data['episode_return']:.2f} ({low:.2f} to {high:.2f})")
    return "\n".join([*lines, *_failed(data)])


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


def _whom(data: dict[str, Any]) -> str:
    vehicle = "as its file says" if data["nominal"] else "over the whole range of the training"
    other = "" if data["same_robot"] else " (not the one the policy was trained for)"
    return f"{data['robot']}{other} {vehicle}"


def _failed(data: dict[str, Any]) -> list[str]:
    failures = ", ".join(f"{n} {kind}" for kind, n in data["failures"].items() if n)
    return [f"failed            {failures}"] if failures else []
