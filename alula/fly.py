"""The main job: flight log or preset -> robot -> policy -> checks in two simulators and two runtimes -> report."""

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from alula.build import SimName
from alula.errors import AlulaError
from alula.evaluation import pil as pil_flight
from alula.evaluation import report
from alula.evaluation.evaluate import LAP_S, Evaluation, default_steps, evaluate, policy_task
from alula.evaluation.flight import Flight
from alula.evaluation.report import write_report
from alula.evaluation.study import run_study
from alula.firmware_export.c_export import export_c
from alula.firmware_export.host import c_max_abs_diff
from alula.firmware_export.toolchain import TARGETS, Target, require
from alula.machine import peak_memory_mb
from alula.policies.onnx_file import Policy, load_policy
from alula.presets import Preset
from alula.robots.multirotor import Multirotor, load_robot
from alula.run_folder import (
    CONFIG,
    POLICY,
    RESULT,
    ROBOT_FILE,
    keep_robot_file,
    run_folder,
    write_json,
)
from alula.sim.arm_config import ArmSimConfig
from alula.training.run import METRICS, TrainingResult, train

REPORT, C_FOLDER, IDENTIFICATION_PLOT = "report.html", "c", "identification.png"
EPISODES, FLOWN_STEPS = 1000, 500_000
"""Episodes and steps, whichever is fewer, in alula's own physics on the robot as it is; as many again over
the range of the training."""
MUJOCO_EPISODES = 200
"""Episodes in MuJoCo, which is slower by two orders of magnitude."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a policy must keep to pass."""

    success_min: float = 0.99
    """Smallest share of episodes that stay within the task's limits [-]."""
    success_gap_max: float = 0.01
    """Largest difference of that share between the simulators [-]."""
    error_gap_max: float = 0.01
    """Largest difference of the mean error between the simulators [m]."""
    parity_max: float = 1e-5
    """Largest difference of an action from the golden sequences [-]."""
    pil_error_gap_max: float = 0.001
    """Largest difference of the error between firmware and policy file in the same flights [m]."""


@dataclass(frozen=True, kw_only=True)
class LogInput:
    """The flight log to identify the robot from."""

    path: Path
    """File."""
    mass: float
    """Take-off mass in that flight [kg]."""
    from_s: float | None = None
    """First second to use [s]."""
    to_s: float | None = None
    """Last second to use [s]."""
    columns: dict[str, str] | None = None
    """Our signal name -> the file's column."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing the policy had to keep."""

    name: str
    """What was checked."""
    value: float
    """What was found."""
    limit: float
    """What is allowed."""
    at_least: bool
    """Whether the limit is the smallest allowed value; else the largest."""

    @property
    def passed(self) -> bool:
        """Whether the value keeps the limit; NaN never does."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        return f"{self.name} is {self.value:.4g}; allowed: {word} {self.limit:g}"


def fly(
    preset: Preset,
    *,
    out: Path,
    seed: int = 0,
    log: LogInput | None = None,
    overwrite: bool = False,
    limits: Limits | None = None,
    pil: Target | None = None,
) -> tuple[dict[str, Any], list[Check]]:
    """Do the whole job and leave its results in the folder `out`; see `run_folder` for interruptions.

    Args:
        preset: robot, task, flight setting and learner.
        out: a new or empty folder.
        seed: seed of the training; the evaluations draw other numbers.
        log: identify the robot from this flight instead of taking the preset's.
        overwrite: replace an earlier run.
        limits: what the policy must keep; the defaults of `Limits` if None.
        pil: fly the exported C in an emulator of this processor, too.

    Returns:
        The figures as plain JSON values, and every check.

    Raises:
        AlulaError: bad log or robot, a folder that is taken or cannot be written, or missing tools for `pil`.
    """
    if pil is not None:
        require(pil)
    started = time.perf_counter()
    note = _Notes(started)
    with (
        run_folder(out, mark=CONFIG, overwrite=overwrite) as folder,
        ThreadPoolExecutor(1) as beside,
    ):
        robot = _robot(preset, log, folder, note)
        _load_beside("onnxruntime", "mujoco", "alula.sim.mujoco.multirotor")
        trained = train(
            preset, robot=robot, seed=seed, out=folder, progress=sys.stderr.isatty(), resume=None
        )
        note(f"trained on {trained.env_steps} steps in {trained.train_s:.2f} s")
        policy = load_policy(folder / POLICY, robot=robot)
        name = str(out / POLICY)
        # MuJoCo and the C compiler take the second core; neither needs Python for long.
        second = beside.submit(_second_opinions, policy, robot, folder, name)
        steps = default_steps(policy_task(policy.contract), policy.contract.control_dt, LAP_S)
        episodes = max(1, min(EPISODES, FLOWN_STEPS // steps))
        nominal = evaluate(policy, name=name, robot=robot, episodes=episodes)
        varied = evaluate(policy, name=name, robot=robot, episodes=episodes, nominal=False)
        note(_words(varied[0], "over the whole range of the training"))
        note(_words(nominal[0], "as the robot file says"))
        study = run_study(policy, (nominal, varied), robot=robot)
        mujoco, c_difference = second.result()
        note(_words(mujoco[0], "in MuJoCo"))
        data = _figures(
            *(preset, robot, seed, policy, trained, out),
            *(nominal[0], varied[0], mujoco[0], c_difference),
        )
        if pil is not None:
            data |= _fly_pil(policy, folder / C_FOLDER, pil, robot, name, note)
        checks = _checks(data, limits or Limits())
        identified = folder / IDENTIFICATION_PLOT
        write_report(
            folder / REPORT,
            policy=policy,
            study=replace(study, evaluations=(nominal, mujoco, varied)),
            checks=[report.Check(text=str(c), passed=c.passed) for c in checks],
            training_log=folder / METRICS,
            images=[("Fit and residuals", identified)] if log else [],
            facts=_facts(data),
        )
        data |= {
            "checks": [asdict(c) | {"passed": c.passed} for c in checks],
            "peak_memory_mb": peak_memory_mb(),
            "total_s": time.perf_counter() - started,
        }
        write_json(folder / RESULT, data)
    note(f"report: {out / REPORT}")
    return data, checks


class _Notes:
    """Says on standard error what has been done, and when."""

    def __init__(self, started: float) -> None:
        self._started = started

    def __call__(self, text: str) -> None:
        print(f"{time.perf_counter() - self._started:6.1f} s  {text}", file=sys.stderr, flush=True)


def _robot(
    preset: Preset, log: LogInput | None, folder: Path, note: Callable[[str], None]
) -> Multirotor:
    """The robot to train for; its file goes into the folder."""
    if isinstance(preset.sim, ArmSimConfig):
        raise AlulaError(f"preset {preset.name} is an arm's; allowed: alula train {preset.name}")
    if log is None:
        robot = load_robot(preset.robot)
        keep_robot_file(preset.robot, folder)
        note(f"robot {robot.name}")
        return robot
    from alula.identification.identify import identify
    from alula.identification.plots import plot_identification
    from alula.identification.robot_file import write_robot

    found = identify(log.path, mass=log.mass, from_s=log.from_s, to_s=log.to_s, columns=log.columns)
    write_robot(found, folder / ROBOT_FILE)
    write_json(folder / "identification.json", found.to_json())
    plot_identification(found, folder / IDENTIFICATION_PLOT)
    note(
        f"identified from {log.path.name}, {found.from_s:.1f} to {found.to_s:.1f} s, "
        f"taking the mass as {log.mass:g} kg"
    )
    return load_robot(folder / ROBOT_FILE)


def _load_beside(*modules: str) -> None:
    """Import what is needed later while the training runs, which leaves the interpreter idle."""

    def load() -> None:
        for module in modules:
            # What is wrong with a module is said where it is used
            with suppress(ImportError):
                import_module(module)

    threading.Thread(target=load, daemon=True).start()


def _second_opinions(
    policy: Policy, robot: Multirotor, folder: Path, name: str
) -> tuple[tuple[Evaluation, Flight], float]:
    """The flights in MuJoCo, and the largest difference of the exported C."""
    export_c(folder / POLICY, folder / C_FOLDER)
    difference = c_max_abs_diff(policy, folder / C_FOLDER)
    flown = evaluate(policy, name=name, sim="mujoco", robot=robot, episodes=MUJOCO_EPISODES)
    return flown, difference


def _fly_pil(
    policy: Policy,
    c_dir: Path,
    target: Target,
    robot: Multirotor,
    name: str,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Processor in the loop, with a bar for each simulator where somebody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    contract = policy.contract
    steps = default_steps(policy_task(contract), contract.control_dt, LAP_S)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bars:
        names: dict[SimName, str] = {"multirotor": "alula's physics", "mujoco": "MuJoCo"}
        tasks = {
            sim: bars.add_task(f"{target.title} firmware in {where}", total=steps)
            for sim, where in names.items()
        }
        flown = pil_flight.run_pil(
            *(policy, c_dir, target),
            robot=robot,
            name=name,
            progress=lambda sim, done: bars.update(tasks[sim], completed=done),
        )
    note(_words(flown.multirotor.firmware, f"as {target.title} firmware"))
    note(_words(flown.mujoco.firmware, f"as {target.title} firmware in MuJoCo"))
    return flown.to_json()


def _words(evaluation: Evaluation, where: str) -> str:
    m = evaluation.metrics
    error = "" if m.hover_error_m is None else f", mean error {100.0 * m.hover_error_m:.2f} cm"
    return f"{m.survived} of {m.episodes} flights succeed {where}{error}"


def _figures(
    preset: Preset,
    robot: Multirotor,
    seed: int,
    policy: Policy,
    trained: TrainingResult,
    out: Path,
    nominal: Evaluation,
    varied: Evaluation,
    mujoco: Evaluation,
    c_difference: float,
) -> dict[str, Any]:
    return {
        "preset": preset.name,
        "seed": seed,
        "policy": str(out / POLICY),
        "robot": robot.name,
        "robot_file": str(out / ROBOT_FILE),
        "train_s": trained.train_s,
        "setup_s": trained.setup_s,
        "env_steps": trained.env_steps,
        "success": nominal.metrics.success,
        "hover_error_m": nominal.metrics.hover_error_m,
        "tracking_rmse_m": nominal.metrics.tracking_rmse_m,
        "randomized_success": varied.metrics.success,
        "randomized_hover_error_m": varied.metrics.hover_error_m,
        "mujoco_success": mujoco.metrics.success,
        "mujoco_hover_error_m": mujoco.metrics.hover_error_m,
        "mujoco_tracking_rmse_m": mujoco.metrics.tracking_rmse_m,
        "onnx_max_abs_diff": policy.golden_max_abs_diff,
        "c_max_abs_diff": c_difference,
        "report": str(out / REPORT),
    }


def _facts(data: dict[str, Any]) -> dict[str, str]:
    """Lines of provenance for the report."""
    facts = {
        "training": f"{data['env_steps']} steps in {data['train_s']:.2f} s",
        "ONNX Runtime on the golden sequences": f"largest difference {data['onnx_max_abs_diff']:.1e}",
        "compiled C on the golden sequences": f"largest difference {data['c_max_abs_diff']:.1e}",
    }
    if "pil_target" in data:
        facts |= pil_flight.facts(data)
    return facts


def _checks(data: dict[str, Any], limits: Limits) -> list[Check]:
    """Every check of a run's figures; an error that does not exist, as nothing survived, fails."""

    def gap(key: str) -> float:
        a, b = data[key], data[f"mujoco_{key}"]
        return float("nan") if a is None or b is None else abs(a - b)

    def least(name: str, value: float, limit: float) -> Check:
        return Check(name=name, value=value, limit=limit, at_least=True)

    def most(name: str, value: float, limit: float) -> Check:
        return Check(name=name, value=value, limit=limit, at_least=False)

    checks = [
        least("success on the robot as it is", data["success"], limits.success_min),
        least("success over the training's range", data["randomized_success"], limits.success_min),
        most("difference of success in MuJoCo", gap("success"), limits.success_gap_max),
        most("difference of mean error in MuJoCo [m]", gap("hover_error_m"), limits.error_gap_max),
        most("ONNX Runtime's difference", data["onnx_max_abs_diff"], limits.parity_max),
        most("the C export's difference", data["c_max_abs_diff"], limits.parity_max),
    ]
    if "pil_target" in data:
        title = TARGETS[data["pil_target"]].title
        for key, where in (("pil", "alula's physics"), ("pil_mujoco", "MuJoCo")):
            beside = f"from the policy file's in {where}"
            checks += [
                most(
                    f"difference of the {title}'s success {beside}", data[f"{key}_success_gap"], 0.0
                ),
                most(
                    f"difference of the {title}'s error {beside} [m]",
                    data[f"{key}_error_gap_m"],
                    limits.pil_error_gap_max,
                ),
            ]
        checks += [
            most(f"the {title}'s difference", data["pil_max_abs_diff"], limits.parity_max),
            most(f"steps that the {title} held", data["pil_held_steps"], 0.0),
        ]
    return checks
