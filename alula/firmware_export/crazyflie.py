"""Policy file -> a complete out-of-tree app for the Crazyflie's firmware (docs/crazyflie.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from alula.errors import AlulaError
from alula.firmware_export import autopilot
from alula.firmware_export.c_export import CExport, export_c
from alula.firmware_export.c_source import field_names
from alula.firmware_export.c_text import comment, fill
from alula.firmware_export.quantise import Format
from alula.policies.contract import Contract
from alula.policies.files import write_files
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


@dataclass(frozen=True, kw_only=True)
class CrazyflieExport:
    """What `export_crazyflie` wrote, and what the policy costs on the target."""

    folder: Path
    """Where the app is."""
    files: tuple[Path, ...]
    """All files of the app."""
    robot: str
    """Robot that the policy was trained for."""
    task: str
    """Its task."""
    flash_bytes: int
    """Constants: weights, normaliser, golden sequences [B]; code comes on top."""
    ram_bytes: int
    """One `policy_t` [B]."""
    macs: int
    """Multiply-accumulates of one step."""
    golden_sequences: int
    """Golden sequences that the app replays at start-up."""


def export_crazyflie(
    policy_path: str | Path,
    out_dir: str | Path,
    *,
    formats: Sequence[Format] | None = None,
    overwrite: bool = False,
) -> CrazyflieExport:
    """Write a policy as an app folder that `make` builds together with the Crazyflie's firmware.

    `formats` says how each matrix is stored, as in `export_c`.

    Raises:
        AlulaError: the file is not a sound policy, its contract asks for something that the app cannot
            supply or command, a target exists and `overwrite` is false, or the folder cannot be written.
    """
    policy = load_policy(policy_path)
    check_contract(policy.contract)
    with TemporaryDirectory(prefix="alula-crazyflie-") as scratch:
        c = export_c(policy_path, scratch, formats=formats)
        sources = {f"src/{n}": (c.folder / n).read_bytes() for n in ("policy.h", "policy.c")}
    marks = _marks(policy.contract, policy.sha256, c)
    app = {name: fill(TEMPLATES / name, marks).encode("ascii") for name in FILES}
    files = app | sources
    write_files(out_dir, files, overwrite=overwrite)
    return CrazyflieExport(
        folder=Path(out_dir),
        files=tuple(Path(out_dir) / name for name in files),
        robot=policy.contract.robot,
        task=policy.contract.task,
        flash_bytes=c.flash_bytes,
        ram_bytes=c.ram_bytes,
        macs=c.macs,
        golden_sequences=c.golden_sequences,
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


def _marks(contract: Contract, sha256: str, c: CExport) -> dict[str, str]:
    observe = []
    for entry, field in zip(contract.supplied, field_names(contract), strict=True):
        measured = MEASURED_US.get(entry.name, "estimate_us")
        observe += [
            f"    alula_{entry.name}(&inputs, observation.{field});",
            f"    observation.time_us[POLICY_FIELD_{field.upper()}] = inputs.{measured};",
        ]
    return {
        "OBSERVE": "\n".join(observe),
        "ROBOT": comment(contract.robot),
        "ROBOT_TEXT": comment(contract.robot),
        "ROBOT_HASH": comment(contract.robot_hash),
        "TASK": comment(contract.task),
        "SHA256": sha256,
        "STEP_MS": f"{1e3 * contract.control_dt:g}",
        "FLASH": str(c.flash_bytes),
        "RAM": str(c.ram_bytes),
        "MACS": str(c.macs),
        "SEQUENCES": str(c.golden_sequences),
    }
