"""`alula check-sim`: the simulator contract on this installation, with a report to send back."""

import contextlib
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, assert_never

from alula import __version__
from alula.build import build_simulator, build_task, is_arm_task, load_any_robot
from alula.command_base import Outcome
from alula.errors import AlulaError
from alula.evaluation.simulator_cases import ArmCase, ArmSimulator, Case, FlightCase
from alula.evaluation.simulator_checks import CheckFailed, N
from alula.evaluation.simulator_robot_checks import checks_of
from alula.machine import processor_name
from alula.options import BackEnd, CheckSim
from alula.presets import ARM_RANDOMIZED
from alula.robots.arm import Arm
from alula.robots.multirotor import Multirotor
from alula.run_folder import RESULT, default_folder, run_folder, write_json
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.config import Randomization, SimConfig
from alula.sim.protocol import FlightSimulator

if TYPE_CHECKING:
    from alula.sim.isaac.worker import IsaacName

REPORT = "check-sim.md"
"""What to send back: everything is in it."""
PACKAGES = ("numpy", "scipy", "mujoco", "mujoco-warp", "warp-lang", "torch", "onnxruntime")
NOT_BITWISE = 1e-3
"""What two runs may differ by on a GPU, where sums have no order."""
FLIGHT = SimConfig(
    randomization=Randomization(
        mass=0.2, inertia=0.2, action_delay_steps=(0, 2), observation_delay_steps=(0, 2)
    )
)
ARM = ArmSimConfig(
    randomization=replace(ARM_RANDOMIZED, actuator_lag=(0.0, 0.02), observation_delay_steps=(0, 2))
)
MEASURED_LATE = ArmSimConfig(randomization=ArmRandomization(observation_delay_steps=(0, 2)))
"""For physics that draw no parameters."""


Tell = Callable[[bool], dict[str, Any]]
"""From whether all passed to what a back end says of itself, once it has run."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of one check."""

    name: str
    """Of its function."""
    about: str
    """What must be, in one sentence."""
    passed: bool
    """Whether it is."""
    detail: str
    """What was seen."""
    seconds: float
    """How long it took [s]."""


def check_sim(command: CheckSim) -> Outcome:
    """Run all checks, write the report.

    Raises:
        AlulaError: the back end is not installed, or a robot, task or folder that does not fit.
    """
    out = command.out or default_folder(f"check-{command.back_end}")
    with (
        run_folder(out, mark=REPORT, overwrite=command.overwrite) as folder,
        _case(command) as (case, tell),
    ):
        # Simulators say things on standard output, which belongs to the result.
        with contextlib.redirect_stdout(sys.stderr):
            results = [_run(check, case) for check in checks_of(case)]
        told = tell(all(r.passed for r in results))
        data = {
            "back_end": command.back_end,
            "robot": case.robot.name,
            "robot_hash": case.robot.hash,
            "task": command.task or _usual_task(case.robot),
            "passed": sum(r.passed for r in results),
            "failed": sum(not r.passed for r in results),
            "checks": [vars(r) for r in results],
            "software": software() | told.pop("software", {}),
            "hardware": hardware() | told.pop("hardware", {}),
            "back_end_says": told,
        }
        write_json(folder / RESULT, data)
        (folder / REPORT).write_text(report(data), encoding="utf-8")
    data["report"] = str(out / REPORT)
    total = f"{data['passed']} of {len(results)} checks passed"
    text = f"{table(results)}\n{total}\nreport  {data['report']}"
    failures = tuple(f"{r.name}: {r.detail}" for r in results if not r.passed)
    return Outcome(data=data, text=text, failures=failures)


def _run(check: Callable[[Case], str], case: Case) -> Result:
    start = time.perf_counter()
    try:
        detail, passed = check(case), True
    except CheckFailed as e:
        detail, passed = str(e), False
    except Exception as e:
        # What a back end that nobody has run may raise is a finding, and the other checks still count.
        detail, passed = " ".join(f"{type(e).__name__}: {e}".split()), False
    about = " ".join((check.__doc__ or "").split("\n\n")[0].split())
    seconds = time.perf_counter() - start
    return Result(
        name=check.__name__, about=about, passed=passed, detail=detail, seconds=round(seconds, 3)
    )


@contextlib.contextmanager
def _case(command: CheckSim) -> Iterator[tuple[Case, Tell]]:
    """The back end with robot and task, and what it says of itself."""
    back_end = command.back_end
    robot = load_any_robot(command.robot or _usual_robot(back_end))
    name = command.task or _usual_task(robot)
    task = build_task(name)
    if is_arm_task(task) != isinstance(robot, Arm):
        raise AlulaError(f"task {name} is not for robot {robot.name}; allowed: one of its kind")
    if isinstance(robot, Multirotor):
        if name != "hover":
            raise AlulaError(f"task {name}; allowed for a multirotor: hover")
        yield _flight_case(back_end, robot, task), _nothing
        return
    match back_end:
        case "mujoco" | "mujoco-warp":
            yield _arm_case(back_end, robot, task, command.device), _nothing
        case "isaac-lab" | "isaac-gym":
            with _isaac_case(command, back_end, robot, task) as found:
                yield found
        case "multirotor":
            raise AlulaError(f"{back_end} flies multirotors; allowed: a robot that is one")
        case _:
            assert_never(back_end)


@contextlib.contextmanager
def _isaac_case(
    command: CheckSim, back_end: "IsaacName", robot: Arm, task: ModuleType
) -> Iterator[tuple[Case, Tell]]:
    from alula.sim.isaac.arm import IsaacArm
    from alula.sim.isaac.worker import NotInstalled, Worker

    worker = Worker(back_end, python=command.python)

    def build(task: ModuleType, config: ArmSimConfig, n: int, auto_reset: bool) -> ArmSimulator:
        return IsaacArm(
            robot, task, config, n, worker=worker, device=command.device, auto_reset=auto_reset
        )

    case = ArmCase(build=build, robot=robot, task=task, config=MEASURED_LATE, tolerance=NOT_BITWISE)
    try:
        try:
            case.make(N)
        except NotInstalled:
            raise
        except AlulaError as e:
            # Anything else is a finding, which the checks state, unless it is our own refusal.
            if not worker.log():
                raise AlulaError(str(e)) from None

        def tell(all_passed: bool) -> dict[str, Any]:
            log = {} if all_passed else {"last lines that it printed": worker.log()}
            return {**worker.said, **log}

        yield case, tell
    finally:
        worker.close()


def _nothing(all_passed: bool) -> dict[str, Any]:
    return {}


def _usual_robot(back_end: BackEnd) -> str:
    return "crazyflie-l2f" if back_end == "multirotor" else "panda"


def _usual_task(robot: Multirotor | Arm) -> Any:
    if isinstance(robot, Multirotor):
        return "hover"
    return "lift" if robot.name == "panda" else "reach"


def _flight_case(back_end: BackEnd, robot: Multirotor, task: ModuleType) -> Case:
    if back_end not in ("multirotor", "mujoco"):
        raise AlulaError(f"{back_end} moves arms; allowed: a robot that is one, as panda or ur5e")

    def build(config: SimConfig, n_envs: int, auto_reset: bool) -> FlightSimulator:
        return build_simulator(back_end, robot, task, config, n_envs, auto_reset=auto_reset)

    return FlightCase(build=build, robot=robot, config=FLIGHT)


def _arm_case(back_end: BackEnd, robot: Arm, task: ModuleType, device: str) -> Case:
    if back_end == "mujoco-warp":
        from alula.sim.mujoco.arm_warp import HostedArm, WarpArm

        def build(task: ModuleType, config: ArmSimConfig, n: int, auto_reset: bool) -> ArmSimulator:
            return HostedArm(WarpArm(robot, task, config, n, auto_reset=auto_reset, device=device))
    else:
        from alula.sim.mujoco.arm import MujocoArm

        def build(task: ModuleType, config: ArmSimConfig, n: int, auto_reset: bool) -> ArmSimulator:
            return MujocoArm(robot, task, config, n, auto_reset=auto_reset)

    tolerance = NOT_BITWISE if back_end == "mujoco-warp" else 0.0
    case = ArmCase(build=build, robot=robot, task=task, config=ARM, tolerance=tolerance)
    try:
        case.make(N)
    except Exception as e:
        # A robot that the task is not for is bad input; anything else is a finding, which the checks state.
        if isinstance(e, AlulaError):
            raise
    return case


def software() -> dict[str, str]:
    """Versions of what takes part."""
    found = {"alula": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def hardware() -> dict[str, Any]:
    """Processor, memory and GPUs of this machine, and its system; no names and no paths."""
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor_name(),
        "cores": os.cpu_count(),
    }
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        found["gpus"] = told.stdout.strip().splitlines()
    except (OSError, subprocess.SubprocessError):
        found["gpus"] = []
    return found


def table(results: list[Result]) -> str:
    """For the terminal."""
    from rich.console import Console
    from rich.table import Table

    rows = Table("check", "", "what was seen", "s", box=None, pad_edge=False)
    rows.columns[3].justify = "right"
    for r in results:
        mark = "passed" if r.passed else "FAILED"
        rows.add_row(r.name.replace("_", " "), mark, r.detail, f"{r.seconds:.1f}")
    text = io.StringIO()
    Console(file=text, width=120, markup=False, highlight=False).print(rows)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def report(data: dict[str, Any]) -> str:
    """Everything, for people, with the same as JSON at its end."""

    def listed(values: dict[str, Any]) -> list[str]:
        return [f"- {name}: {value}" for name, value in values.items()]

    rows = [
        f"| {c['name']} | {'passed' if c['passed'] else '**FAILED**'} | {c['detail'].replace('|', '/')} "
        f"| {c['about']} |"
        for c in data["checks"]
    ]
    return "\n".join(
        [
            f"# alula check-sim {data['back_end']}",
            "",
            f"Robot {data['robot']}, task {data['task']}: {data['passed']} passed, {data['failed']} failed.",
            "",
            "| check | | what was seen | what must be |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "## Software",
            "",
            *listed(data["software"]),
            "",
            "## Hardware",
            "",
            *listed(data["hardware"]),
            "",
            "## What the back end says of itself",
            "",
            *(listed(data["back_end_says"]) or ["Nothing."]),
            "",
            "## The same for programs",
            "",
            "```json",
            json.dumps(data, default=str),
            "```",
            "",
        ]
    )
