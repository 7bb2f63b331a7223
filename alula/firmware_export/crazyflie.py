"""Policy file -> a complete out-of-tree app for the Crazyflie's firmware (docs/crazyflie.md)."""

from collections.abc import Sequence
from pathlib import Path

from alula.errors import AlulaError
from alula.firmware_export import autopilot
from alula.firmware_export.c_source import field_names
from alula.firmware_export.quantise import Format
from alula.policies.contract import Contract
from alula.policies.onnx_file import load_policy

TEMPLATES = Path(__file__).parent / "targets" / "crazyflie"
FILES = (
    "Makefile",
    "Kbuild",
    "app-config",
    "README.md",
    "src/Kbuild",
    "src/alula.c",
    "src/alula_convert.h",
)
"""Files of the app that do not hold the policy."""
MEASURED_US = {"angular_velocity_b": "gyro_us", "reference_preview_w": "now_us"}
"""When an entry was measured, where it is not when the state estimate last changed."""
ROTORS = ("M1", "M2", "M3", "M4")
LOOP_DT = 0.001
"""Period of the firmware's control loop [s]."""


def export_crazyflie(
    policy_path: str | Path,
    out_dir: str | Path,
    *,
    formats: Sequence[Format] | None = None,
    overwrite: bool = False,
) -> autopilot.AutopilotExport:
    """Write a policy as an app folder that `make` builds together with the Crazyflie's firmware.

    `formats` says how each matrix is stored, as in `export_c`.

    Raises:
        AlulaError: the file is not a sound policy, its contract asks for something that the app cannot
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
        sources="src",
        marks=_marks(contract),
        motors=ROTORS,
        formats=formats,
        overwrite=overwrite,
    )


def check_contract(contract: Contract) -> None:
    """Raise unless the app can supply every observation and command every action of the contract.

    Raises:
        AlulaError: it cannot.
    """
    names = [a.name for a in contract.action]
    if sorted(names) != list(ROTORS):
        raise AlulaError(
            f"a Crazyflie has no rotors {', '.join(names)}; allowed: {', '.join(ROTORS)}, each once"
        )
    autopilot.check_contract(contract, "a Crazyflie", LOOP_DT)


def _marks(contract: Contract) -> dict[str, str]:
    observe = []
    for entry, field in zip(contract.supplied, field_names(contract), strict=True):
        measured = MEASURED_US.get(entry.name, "estimate_us")
        observe += [
            f"    alula_{entry.name}(&inputs, observation.{field});",
            f"    observation.time_us[POLICY_FIELD_{field.upper()}] = inputs.{measured};",
        ]
    return {
        "OBSERVE": "\n".join(observe),
    }
