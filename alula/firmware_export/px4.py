"""Policy file -> a flight mode for PX4: a folder for EXTERNAL_MODULES_LOCATION (docs/px4.md)."""

from collections.abc import Sequence
from pathlib import Path

from alula.errors import AlulaError
from alula.firmware_export import autopilot
from alula.firmware_export.c_source import field_names
from alula.firmware_export.c_text import comment
from alula.firmware_export.quantise import Format
from alula.frames import PX4_FROM_ALULA
from alula.policies.contract import Contract
from alula.policies.onnx_file import load_policy

TEMPLATES = Path(__file__).parent / "targets" / "px4"
MODULE = "src/modules/alula"
FILES = (
    "README.md",
    "src/CMakeLists.txt",
    f"{MODULE}/CMakeLists.txt",
    f"{MODULE}/Kconfig",
    f"{MODULE}/module.yaml",
    f"{MODULE}/alula_convert.hpp",
    f"{MODULE}/alula_flight.cpp",
    f"{MODULE}/alula_flight.hpp",
    f"{MODULE}/alula_module.cpp",
    f"{MODULE}/alula_module.hpp",
)
"""Files of the folder that do not hold the policy."""
SOURCE = {
    "position_w": "POSITION",
    "position_error_w": "POSITION",
    "rot_wb": "ATTITUDE",
    "velocity_w": "POSITION",
    "velocity_error_w": "POSITION",
    "angular_velocity_b": "RATES",
    "reference_preview_w": "SETPOINT",
}
"""Which message an entry is made from; its limits of age differ."""
QUADROTOR = ("M1", "M2", "M3", "M4")
"""Rotors of every quadrotor in alula: front right, rear right, rear left, front left."""
MAX_MOTORS = 12
MAX_LOGGED = 48
"""Numbers of an observation and its action that fit into one entry of PX4's log."""
LOOP_DT = 0.001
"""Shortest period of PX4's gyroscope that is common [s]."""


def export_px4(
    policy_path: str | Path,
    out_dir: str | Path,
    *,
    formats: Sequence[Format] | None = None,
    overwrite: bool = False,
) -> autopilot.AutopilotExport:
    """Write a policy as an external module of PX4.

    `formats` says how each matrix is stored, as in `export_c`.

    Raises:
        AlulaError: the file is not a sound policy, its contract asks for something that the module cannot
            supply or command, a target exists and `overwrite` is false, or the folder cannot be written.
    """
    policy = load_policy(policy_path)
    contract = policy.contract
    check_contract(contract)
    return autopilot.write_app(
        policy_path,
        out_dir,
        contract=contract,
        sha256=policy.sha256,
        templates=TEMPLATES,
        names=FILES,
        sources=MODULE,
        marks=_marks(contract),
        motors=tuple(contract.action[i].name for i in rotor_of_motor(contract)),
        formats=formats,
        overwrite=overwrite,
    )


def rotor_of_motor(contract: Contract) -> tuple[int, ...]:
    """Index of the action that commands PX4's motor 1, 2, ...

    A quadrotor's are in the order of PX4's quad-x, found by name; any other robot's are in its own order, and
    PX4's motors must be set up to match.

    Raises:
        AlulaError: four rotors with other names than M1 to M4.
    """
    names = [a.name for a in contract.action]
    if len(names) != len(QUADROTOR):
        return tuple(range(len(names)))
    if sorted(names) != list(QUADROTOR):
        raise AlulaError(
            f"a PX4 quadrotor has no rotors {', '.join(names)}; "
            f"allowed: {', '.join(QUADROTOR)}, each once"
        )
    return tuple(names.index(QUADROTOR[i]) for i in PX4_FROM_ALULA)


def check_contract(contract: Contract) -> None:
    """Raise unless the module can supply every observation and command every action of the contract.

    Raises:
        AlulaError: it cannot.
    """
    autopilot.check_contract(contract, "PX4", LOOP_DT)
    if contract.action_size > MAX_MOTORS:
        raise AlulaError(f"{contract.action_size} rotors; allowed on PX4: at most {MAX_MOTORS}")
    if contract.supplied_size + contract.action_size > MAX_LOGGED:
        raise AlulaError(
            f"{contract.supplied_size} observations and {contract.action_size} actions; "
            f"allowed on PX4: {MAX_LOGGED} together"
        )
    rotor_of_motor(contract)


def _marks(contract: Contract) -> dict[str, str]:
    fields = field_names(contract)
    order = rotor_of_motor(contract)
    motors = [comment(contract.action[i].name) for i in order]
    entries = [
        f"{e.name}(_sensed, _observation.{f});"
        for e, f in zip(contract.supplied, fields, strict=True)
    ]
    throttle = contract.action
    return {
        "OBSERVE": "\n".join(f"    {call}" for call in entries),
        "SOURCES": ", ".join(SOURCE[e.name] for e in contract.supplied),
        "ROTORS": ", ".join(str(i) for i in order),
        "MOTOR_NAMES": ", ".join(motors),
        "MOTOR_TABLE": "\n".join(
            f"| Motor {i + 1} | {name} | {throttle[k].low:g} to {throttle[k].high:g} |"
            for i, (name, k) in enumerate(zip(motors, order, strict=True))
        ),
        "ENTRIES": ", ".join(f"`{e.name}`" for e in contract.supplied),
    }
