"""What each command of `alula.options` does; heavy imports happen inside, when a command needs them."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alula import options
from alula.command_base import Outcome
from alula.errors import AlulaError
from alula.run_folder import (
    CONFIG,
    POLICY,
    RESULT,
    ROBOT_FILE,
    default_folder,
    keep_robot_file,
    run_folder,
    write_json,
)

if TYPE_CHECKING:
    from alula.firmware_export.toolchain import Target
    from alula.presets import Preset

MAX_SEED = 2**32 - 1


def fly(command: options.Fly) -> Outcome:
    """`alula fly`."""
    from alula.presets import get_preset

    preset = get_preset(command.preset)
    _check_seed(command.seed)
    columns = parse_columns(command.columns)
    if command.log is None and (command.columns or command.from_s or command.to_s):
        raise AlulaError("--from, --to and --columns describe a log; allowed: together with --log")
    target = _pil_target(command.pil)
    # Heavy, so only once the request is known to make sense
    from alula.fly import LogInput
    from alula.fly import fly as run

    log = None
    if command.log is not None:
        log = LogInput(
            path=command.log,
            mass=command.mass,
            from_s=command.from_s,
            to_s=command.to_s,
            columns=columns or None,
        )
    data, checks = run(
        preset,
        out=command.out or default_folder(preset.name),
        seed=command.seed,
        log=log,
        overwrite=command.overwrite,
        pil=target,
    )
    lines = [f"{'passed' if c.passed else 'FAILED'}  {c}" for c in checks]
    lines += [f"policy  {data['policy']}", f"report  {data['report']}"]
    lines += [f"all of it took {data['total_s']:.1f} s, {data['train_s']:.2f} s of it training"]
    failures = tuple(str(c) for c in checks if not c.passed)
    return Outcome(data=data, text="\n".join(lines), failures=failures)


def _pil_target(pil: tuple[options.PilTarget, ...] | None) -> "Target | None":
    """The processor asked for, with all that it needs."""
    if pil is None:
        return None
    from alula.firmware_export.toolchain import get_target, require

    if len(pil) > 1:
        raise AlulaError(f"--pil names {len(pil)} targets: {', '.join(pil)}; allowed: one")
    target = get_target(pil[0] if pil else "cortex-m4f")
    require(target)
    return target


def train(command: options.Train) -> Outcome:
    """`alula train`."""
    from alula.build import build_robot
    from alula.presets import get_preset
    from alula.settings import parse_one, with_settings

    preset = get_preset(command.preset)
    preset = with_settings(preset, parse_one(command.settings, preset))
    preset = on_device(preset, command.device)
    _check_seed(command.seed)
    wanted = command.robot or preset.robot
    robot = build_robot(preset, wanted)
    out = command.out or default_folder(preset.name)
    with run_folder(out, mark=CONFIG, overwrite=command.overwrite) as folder:
        from alula.training.run import train as run

        keep_robot_file(wanted, folder)
        trained = run(
            preset,
            robot=robot,
            seed=command.seed,
            out=folder,
            progress=sys.stderr.isatty(),
            resume=command.resume,
            workers=command.workers,
        )
        data = {
            "preset": preset.name,
            "seed": command.seed,
            "policy": str(out / POLICY),
            "robot": robot.name,
            "robot_file": str(out / ROBOT_FILE),
            "train_s": trained.train_s,
            "setup_s": trained.setup_s,
            "env_steps": trained.env_steps,
            "updates": trained.updates,
            "diverged": trained.diverged,
        }
        write_json(folder / RESULT, data)
    diverged = f"physics diverged in {trained.diverged} episodes\n" if trained.diverged else ""
    text = (
        f"policy  {data['policy']}\n{diverged}"
        f"trained on {trained.env_steps} steps in {trained.train_s:.2f} s; "
        f"evaluate it with: alula evaluate {data['policy']}"
    )
    return Outcome(data=data, text=text)


def sweep(command: options.Sweep) -> Outcome:
    """`alula sweep`."""
    from alula.presets import get_preset
    from alula.settings import parse_settings

    preset = get_preset(command.preset)
    settings = parse_settings(command.settings, preset)
    from alula.sweep.sweep import sweep_command

    return sweep_command(command, preset, settings)


def on_device(preset: "Preset", device: str) -> "Preset":
    """The preset learned on a device as torch calls it."""
    from dataclasses import replace

    return preset if device == "cpu" else replace(preset, algo=replace(preset.algo, device=device))


def identify(command: options.Identify) -> Outcome:
    """`alula identify`."""
    columns = parse_columns(command.columns)
    out = command.out or Path(f"{command.log.name.split('.')[0]}.toml")
    if out.suffix != ".toml":
        raise AlulaError(f"robot file {out}; allowed: a name that ends in .toml")
    if (command.mass is None) == (command.robot is None):
        raise AlulaError(
            "identify: allowed: --mass KG for a flight, or --robot ARM for an arm's joints"
        )
    _check_free(
        *(out, out.with_suffix(".png"), *([out.with_suffix(".xml")] if command.robot else [])),
        overwrite=command.overwrite,
    )
    if command.robot is not None:
        return _identify_arm(command, command.robot, columns, out)
    assert command.mass is not None
    from alula.identification.identify import identify as run
    from alula.identification.plots import plot_identification
    from alula.identification.robot_file import write_robot
    from alula.identification.texts import flight_text

    found = run(
        command.log,
        mass=command.mass,
        from_s=command.from_s,
        to_s=command.to_s,
        columns=columns or None,
    )
    robot_file = None
    if found.robot is not None:
        robot_file = str(write_robot(found, out, overwrite=command.overwrite))
    plot = plot_identification(found, out.with_suffix(".png"))
    data = {"robot_file": robot_file, "plot": str(plot), **found.to_json()}
    return Outcome(data=data, text=flight_text(data))


def _check_free(*files: Path, overwrite: bool) -> None:
    """Refuse files that cannot be written, before anything that takes time."""
    for file in files:
        if os.path.lexists(file) and not overwrite:
            raise AlulaError(f"{file} exists; allowed: a new name, or --overwrite")
        if file.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK):
            raise AlulaError(f"{file} cannot be written; allowed: a file in a writable folder")


def _identify_arm(
    command: options.Identify, robot: str, columns: dict[str, str], out: Path
) -> Outcome:
    """`alula identify --robot`."""
    from alula.identification.arm_file import write_arm
    from alula.identification.arm_identify import identify_arm
    from alula.identification.arm_plots import plot_arm
    from alula.identification.texts import arm_text

    found = identify_arm(
        command.log, robot=robot, from_s=command.from_s, to_s=command.to_s, columns=columns
    )
    written = write_arm(found, robot, out, overwrite=command.overwrite)
    plot = plot_arm(found, out.with_suffix(".png"))
    file = None if written is None else str(written)
    data = {"robot_file": file, "plot": str(plot), **found.to_json()}
    return Outcome(data=data, text=arm_text(data))


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise AlulaError(f"seed is {seed}; allowed: 0 to {MAX_SEED}")


def presets() -> Outcome:
    """`alula presets`."""
    from dataclasses import asdict

    from alula.presets import PRESETS

    lines = [f"{p.name:18}{p.about} ({p.robot}, {p.task})" for p in PRESETS]
    return Outcome(data={"presets": [asdict(p) for p in PRESETS]}, text="\n".join(lines))


def robots() -> Outcome:
    """`alula robots`."""
    from alula.robots.arm import known_arms, load_arm
    from alula.robots.multirotor import ROBOT_DIR, known_robots, load_robot

    found, lines = [], []
    for name in known_robots():
        robot = load_robot(name)
        file = ROBOT_DIR / f"{name}.toml"
        thrust_to_weight = robot.n_rotors * robot.thrust(robot.throttle_max) / (robot.mass * 9.81)
        found.append(
            {
                "name": name,
                "kind": "multirotor",
                "file": str(file),
                "hash": robot.hash,
                "mass_kg": robot.mass,
                "rotors": robot.n_rotors,
                "hover_throttle": robot.hover_throttle,
                "thrust_to_weight": thrust_to_weight,
            }
        )
        lines.append(
            f"{name:18}{robot.mass:.3f} kg, {robot.n_rotors} rotors, "
            f"thrust {thrust_to_weight:.2f} times the weight, {file}"
        )
    for name in known_arms():
        arm, file = load_arm(name), ROBOT_DIR / f"{name}.toml"
        found.append(
            {
                "name": name,
                "kind": "arm",
                "file": str(file),
                "hash": arm.hash,
                "joints": list(arm.joint_names),
            }
        )
        lines.append(f"{name:18}arm, {len(arm.joint_names)} joints, {file}")
    return Outcome(data={"robots": found}, text="\n".join(lines))


def inspect(command: options.Inspect) -> Outcome:
    """`alula inspect`."""
    from alula.policies.onnx_file import inspect_policy

    data = inspect_policy(command.policy)
    return Outcome(data=data, text=_policy_text(data))


def _policy_text(data: dict[str, Any]) -> str:
    contract = data["contract"]
    training = contract["training"]
    about = ", ".join(
        f"{k} {training[k]}" for k in ("preset", "seed", "version", "git_commit") if k in training
    )
    layers = [
        f"{s} (GRU)" if i == data["gru_layer"] else str(s) for i, s in enumerate(data["layers"])
    ]
    lines = [
        f"policy      {data['policy']}, {data['bytes']} bytes, sha256 {data['sha256'][:16]}",
        f"robot       {contract['robot']}, hash {contract['robot_hash'][:16]}",
        f"task        {contract['task']}, one step every {contract['control_dt'] * 1000:g} ms",
        f"trained     {about}",
        f"network     {' - '.join(layers)}, {data['parameters']} parameters, "
        f"{data['macs']} multiply-accumulates a step",
        f"golden      {data['golden_sequences']} sequences of {data['golden_steps']} steps "
        f"({data['golden_runtime']}), reproduced within {data['golden_max_abs_diff']:.1e}",
        "observes, in this order",
    ]
    for e in contract["observation"]:
        past = f", last {e['history']} steps, oldest first" if e["history"] > 1 else ""
        lines.append(
            f"  {e['name']:22}{e['size']:3} [{e['unit']}]{past}, noise {e['noise']:g}, "
            f"delay up to {e['delay'] * 1000:g} ms"
        )
    lines.append("commands, in this order")
    for a in contract["action"]:
        unit = f" {a['unit']}" if a["unit"] != "-" else ""
        lines.append(
            f"  {a['name']:22}{a['meaning']}, -1 is {a['low']:g}, +1 is {a['high']:g}{unit}"
        )
    return "\n".join(lines)


def export(command: options.Export) -> Outcome:
    """`alula export`."""
    from alula.build import load_any_robot
    from alula.export import export as run
    from alula.export import export_text

    robot = _robot_of(command)
    data = run(
        command.policy,
        command.target,
        command.out,
        weights=command.weights,
        robot=load_any_robot(robot) if robot else None,
        overwrite=command.overwrite,
    )
    return Outcome(data=data, text=export_text(data), failures=tuple(data["failures"]))


def bench(command: options.Bench) -> Outcome:
    """`alula bench`."""
    from alula.bench import bench as run

    return run(command)


def check_sim(command: options.CheckSim) -> Outcome:
    """`alula check-sim`."""
    from alula.check_sim import check_sim as run

    return run(command)


def parse_columns(pairs: tuple[str, ...]) -> dict[str, str]:
    """Column names of a log, `ours=theirs` each, as a mapping from ours to theirs."""
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs) or ours in columns:
            raise AlulaError(f"column {pair!r}; allowed: alula's name = the log's name, each once")
        columns[ours] = theirs
    return columns


def evaluate(command: options.Evaluate) -> Outcome:
    """`alula evaluate`."""
    from alula.evaluate import evaluate as run

    return run(command, _robot_of(command))


def flightlog(command: options.Flightlog) -> Outcome:
    """`alula flightlog`."""
    from alula.flightlog.analyse import flight_report
    from alula.flightlog.page import write_page
    from alula.flightlog.words import report_text

    report = flight_report(
        command.log,
        policy=command.policy,
        robot=_robot_of(command),
        topics=parse_columns(command.topics),
        from_s=command.from_s,
        to_s=command.to_s,
    )
    data, text = report.to_json(), report_text(report)
    if command.out is not None:
        page = write_page(command.out, report, overwrite=command.overwrite)
        data, text = {**data, "report": str(page)}, f"{text}\nreport      {page}"
    return Outcome(data=data, text=text)


def _robot_of(command: options.Evaluate | options.Export | options.Flightlog) -> str | None:
    """The robot asked for; else the robot file that a run has left beside its policy."""
    beside = command.policy.parent / ROBOT_FILE if command.policy else Path()
    if command.robot is None and beside.is_file():
        return str(beside)
    return command.robot
