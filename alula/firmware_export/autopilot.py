"""What the exports for autopilots share: what an autopilot can give a multirotor's policy, and the folder they write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from alula.errors import AlulaError
from alula.firmware_export.c_export import CExport, export_c
from alula.firmware_export.c_text import comment, fill
from alula.firmware_export.quantise import Format
from alula.policies.contract import Contract
from alula.policies.files import write_files

SUPPLIED = {
    "position_w": ("m", "w", 3),
    "position_error_w": ("m", "w", 3),
    "rot_wb": ("-", "wb", 9),
    "velocity_w": ("m/s", "w", 3),
    "velocity_error_w": ("m/s", "w", 3),
    "angular_velocity_b": ("rad/s", "b", 3),
    "reference_preview_w": ("m", "w", 12),
}
"""Unit, frame and size of what can be supplied; the preview is at 0.1, 0.2, 0.4 and 0.6 s."""


@dataclass(frozen=True, kw_only=True)
class AutopilotExport:
    """What an export for an autopilot wrote, and what the policy costs on the target."""

    folder: Path
    """Where everything is."""
    files: tuple[Path, ...]
    """All files of the folder."""
    robot: str
    """Robot that the policy was trained for."""
    task: str
    """Its task."""
    motors: tuple[str, ...]
    """Rotor that the autopilot's motor 1, 2, ... must be."""
    flash_bytes: int
    """Constants: weights, normaliser, golden sequences [B]; code comes on top."""
    ram_bytes: int
    """One `policy_t` [B]."""
    macs: int
    """Multiply-accumulates of one step."""
    golden_sequences: int
    """Golden sequences that are replayed at start-up."""


def write_app(
    policy_path: str | Path,
    out_dir: str | Path,
    *,
    contract: Contract,
    sha256: str,
    templates: Path,
    names: Sequence[str],
    sources: str,
    marks: dict[str, str],
    motors: tuple[str, ...],
    formats: Sequence[Format] | None,
    overwrite: bool,
) -> AutopilotExport:
    """Write an autopilot's own files, filled in, and the policy's C among them.

    Args:
        policy_path: policy file.
        out_dir: folder to write.
        contract: the policy's.
        sha256: of the policy file.
        templates: folder of the autopilot's files.
        names: those files, by their place in both folders.
        sources: folder within `out_dir` for policy.h and policy.c.
        marks: what is filled in beside what every autopilot's files say of the policy.
        motors: rotor that the autopilot's motor 1, 2, ... must be.
        formats: how each matrix is stored, as in `export_c`.
        overwrite: replace files of the same names.

    Raises:
        AlulaError: the policy cannot be exported, a target exists and `overwrite` is false, or the folder
            cannot be written.
    """
    with TemporaryDirectory(prefix="alula-export-") as scratch:
        c = export_c(policy_path, scratch, formats=formats)
        policy = {f"{sources}/{n}": (c.folder / n).read_bytes() for n in ("policy.h", "policy.c")}
    marks = _marks(contract, sha256, c) | marks
    files = {name: fill(templates / name, marks).encode("ascii") for name in names} | policy
    write_files(out_dir, files, overwrite=overwrite)
    return AutopilotExport(
        folder=Path(out_dir),
        files=tuple(Path(out_dir) / name for name in files),
        robot=contract.robot,
        task=contract.task,
        motors=motors,
        flash_bytes=c.flash_bytes,
        ram_bytes=c.ram_bytes,
        macs=c.macs,
        golden_sequences=c.golden_sequences,
    )


def _marks(contract: Contract, sha256: str, c: CExport) -> dict[str, str]:
    return {
        "ROBOT": comment(contract.robot),
        "ROBOT_HASH": comment(contract.robot_hash),
        "TASK": comment(contract.task),
        "SHA256": sha256,
        "STEP_MS": f"{1e3 * contract.control_dt:g}",
        "FLASH": str(c.flash_bytes),
        "RAM": str(c.ram_bytes),
        "MACS": str(c.macs),
        "SEQUENCES": str(c.golden_sequences),
    }


def check_contract(contract: Contract, autopilot: str, loop_dt: float) -> None:
    """Raise unless every observation can be supplied and every action is a throttle.

    Args:
        contract: the contract.
        autopilot: what error messages call it.
        loop_dt: period of its control loop [s]; a policy cannot step more often.

    Raises:
        AlulaError: an observation, an action or the rate does not fit.
    """
    for e in contract.supplied:
        if SUPPLIED.get(e.name) != (e.unit, e.frame, e.size):
            allowed = ", ".join(f"{n} {s}x[{u}, {f}]" for n, (u, f, s) in SUPPLIED.items())
            raise AlulaError(
                f"{autopilot} cannot supply {e.name!r} {e.size}x[{e.unit}, {e.frame}]; "
                f"allowed: {allowed}"
            )
    for a in contract.action:
        if a.meaning != "throttle" or a.unit != "-" or not 0.0 <= a.low < a.high <= 1.0:
            raise AlulaError(
                f"action {a.name} is {a.meaning} {a.low:g} to {a.high:g} [{a.unit}]; "
                f"allowed on {autopilot}: throttle within 0 to 1 [-]"
            )
    if contract.control_dt < loop_dt:
        raise AlulaError(
            f"control_dt is {contract.control_dt:g} s; allowed on {autopilot}: >= {loop_dt:g} s"
        )
