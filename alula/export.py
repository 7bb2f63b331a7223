"""Policy file -> what a robot runs, and everything about it that this computer can check."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np

from alula.build import Robot, is_arm_task
from alula.errors import AlulaError
from alula.evaluation.evaluate import check_kind, evaluate, policy_task
from alula.evaluation.pil import present_samples
from alula.evaluation.quantisation import STATES, choose_formats
from alula.firmware_export.autopilot import AutopilotExport
from alula.firmware_export.c_export import CExport, export_c, export_onnx
from alula.firmware_export.crazyflie import export_crazyflie
from alula.firmware_export.host import HostPolicy, build_host, golden_difference
from alula.firmware_export.px4 import MODULE, export_px4
from alula.firmware_export.quantise import Format
from alula.firmware_export.toolchain import TARGETS, footprint
from alula.policies.onnx_file import Policy, load_policy
from alula.robots.arm import Arm
from alula.robots.multirotor import Multirotor

Weights = Literal["float32", "int8"]
ExportTarget = Literal["onnx", "c", "crazyflie", "px4"]
PARITY_MAX = 1e-5
"""Largest difference allowed between the golden actions and those of exported float32 C."""
EPISODES = 20
"""Flights whose states the exported C is shown; at 500 steps each they are STATES."""


def export(
    policy_path: Path,
    target: ExportTarget,
    out: Path,
    *,
    weights: Weights = "float32",
    robot: Robot | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a policy for a target and check what was written.

    What cannot be checked, as a compiler is missing or the robot is not known here, is listed under
    `not_checked`; the files are written all the same.

    Args:
        policy_path: policy file.
        target: what to write.
        out: folder to write into.
        weights: float32, or int8 where the policy flies as well with it.
        robot: vehicle of the flights that judge, or arm; None takes the shipped robot the policy was made for.
        overwrite: replace files of the same names.

    Returns:
        Plain JSON values; `failures` lists the checks that failed, one line each.

    Raises:
        AlulaError: not a sound policy, a target or robot that it does not fit, int8 weights that fly worse or
            cannot be judged, or a folder that is taken or cannot be written.
    """
    data: dict[str, Any] = {"target": target, "out": str(out), "not_checked": [], "failures": []}
    if target == "onnx":
        if weights != "float32":
            raise AlulaError(
                "an ONNX file holds float32; allowed: --weights int8 with the C targets"
            )
        written = export_onnx(policy_path, out, overwrite=overwrite)
        return data | {
            "files": [str(written)],
            "max_abs_diff": load_policy(written).golden_max_abs_diff,
        }
    policy = load_policy(policy_path)
    _check_robot(policy, robot)
    formats: tuple[Format, ...] | None = None
    if weights == "int8":
        if isinstance(robot, Arm) or is_arm_task(policy_task(policy.contract)):
            raise AlulaError("int8 weights are judged in flight; allowed for an arm: float32")
        chosen = choose_formats(policy, robot=robot)
        formats = chosen.formats
        data["quantisation"] = chosen.to_json()
    made = _write(policy_path, target, out, formats, overwrite)
    data |= {
        "files": [str(f) for f in made.files],
        "weights": weights,
        "flash_bytes": made.flash_bytes,
        "ram_bytes": made.ram_bytes,
        "macs": made.macs,
        "golden_sequences": made.golden_sequences,
    }
    c_dir = made.folder / {"c": ".", "crazyflie": "src", "px4": MODULE}[target]
    _check_on_host(data, policy, c_dir, robot)
    _measure_on_targets(data, c_dir)
    return data


def _check_robot(policy: Policy, robot: Robot | None) -> None:
    check_kind(policy, robot)
    own = policy.contract.robot
    if robot is not None and robot.name != own:
        raise AlulaError(
            f"the policy is for the robot {own!r}, not {robot.name!r}; allowed: its own robot or a variant of that name"
        )


def _write(
    policy_path: Path,
    target: Literal["c", "crazyflie", "px4"],
    out: Path,
    formats: Sequence[Format] | None,
    overwrite: bool,
) -> CExport | AutopilotExport:
    match target:
        case "c":
            return export_c(policy_path, out, formats=formats, overwrite=overwrite)
        case "crazyflie":
            return export_crazyflie(policy_path, out, formats=formats, overwrite=overwrite)
        case "px4":
            return export_px4(policy_path, out, formats=formats, overwrite=overwrite)
        case _:
            assert_never(target)


def _check_on_host(data: dict[str, Any], policy: Policy, c_dir: Path, robot: Robot | None) -> None:
    """The compiled C against the golden sequences, its own self-test, and ONNX Runtime in flight."""
    try:
        host = build_host(c_dir)
    except AlulaError as e:
        data["not_checked"].append(f"the compiled C: {e}")
        return
    data["self_test"], tolerance = host.self_test(), host.golden_tolerance
    data["max_abs_diff"] = golden_difference(policy, host)
    if not data["self_test"] <= tolerance:
        data["failures"].append(
            f"the self-test gives {data['self_test']:.1e}; allowed: {tolerance:.0e}"
        )
    if data["weights"] == "float32" and not data["max_abs_diff"] <= PARITY_MAX:
        data["failures"].append(
            f"golden actions differ by {data['max_abs_diff']:.1e}; allowed: {PARITY_MAX:.0e}"
        )
    try:
        difference = _flight_difference(policy, host, robot)
    except AlulaError as e:
        data["not_checked"].append(f"actions in flight: {e}")
        return
    data |= {"flight_max_abs_diff": difference, "flight_states": STATES}
    # What int8 weights may cost has been judged by how they fly.
    if data["weights"] == "float32" and not difference <= PARITY_MAX:
        data["failures"].append(
            f"actions in flight differ by {difference:.1e}; allowed: {PARITY_MAX:.0e}"
        )


def _flight_difference(policy: Policy, host: HostPolicy, robot: Robot | None) -> float:
    """Largest difference of an action of the C, which flies or moves an arm, from ONNX Runtime's for the same."""
    pilot, shown = host.pilot(EPISODES), policy.controller(EPISODES)
    present, differences = present_samples(policy.contract), []

    def act(observation: np.ndarray) -> np.ndarray:
        # The C keeps its own past actions, so that both see the same only where the C acts.
        action = pilot(observation[:, present])
        differences.append(np.abs(shown(observation) - action).max(axis=1))
        return action

    steps = STATES // EPISODES
    if is_arm_task(policy_task(policy.contract)):
        # Flights in alula's own physics do without MuJoCo.
        from alula.evaluation.arm_evaluate import evaluate_arm

        arm = robot if isinstance(robot, Arm) else None
        ended_at = evaluate_arm(
            policy, robot=arm, episodes=EPISODES, steps=steps, controller=lambda n: act
        )[1].ended_at
    else:
        vehicle = robot if isinstance(robot, Multirotor) else None
        ended_at = evaluate(
            policy, robot=vehicle, episodes=EPISODES, steps=steps, act=act, traced=1
        )[1].failed_at
    # An episode that has ended goes on without the policy.
    going = np.arange(steps)[:, None] <= ended_at
    return float(np.array(differences)[going].max())


def _measure_on_targets(data: dict[str, Any], c_dir: Path) -> None:
    """Flash, RAM and stack by the reports of every cross compiler that is here."""
    data["footprint"] = {}
    for target in TARGETS.values():
        try:
            cost = footprint(c_dir, target)
        except AlulaError as e:
            data["not_checked"].append(f"size on {target.title}: {e}")
        else:
            data["footprint"][target.name] = {**asdict(cost), "flash_bytes": cost.flash_bytes}


def export_text(data: dict[str, Any]) -> str:
    """The result for people."""
    lines = [*data["files"]]
    if "max_abs_diff" in data:
        lines.append(f"golden sequences: actions differ by at most {data['max_abs_diff']:.1e}")
    if "flight_max_abs_diff" in data:
        lines.append(
            f"{data['flight_states']} states in flight: actions differ by at most "
            f"{data['flight_max_abs_diff']:.1e}"
        )
    if "quantisation" in data:
        q = data["quantisation"]
        low, high = q["growth_interval"]
        formats = zip(q["matrices"], q["formats"], strict=True)
        lines += [
            f"int8: {', '.join(f'{m} {f}' for m, f in formats)}",
            f"int8: the error grows by {q['growth']:.1%} (95 %: {low:.1%} to {high:.1%}) over {q['episodes']} "
            f"flights, success {q['quantised_success']:.1%} against {q['float32_success']:.1%}",
        ]
    if "macs" in data:
        lines.append(
            f"constants {data['flash_bytes']} B, state {data['ram_bytes']} B, "
            f"{data['macs']} multiply-accumulates a step"
        )
    lines += [
        f"{TARGETS[name].title}: flash {cost['flash_bytes']} B ({cost['code_bytes']} B of it code), "
        f"RAM {cost['ram_bytes']} B, stack {cost['step_stack_bytes']} B"
        for name, cost in data.get("footprint", {}).items()
    ]
    lines += [f"not checked: {what}" for what in data["not_checked"]]
    return "\n".join(lines)
