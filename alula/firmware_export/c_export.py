"""Policy file -> dependency-free C99, or a checked copy of the ONNX file (docs/c-export.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alula.firmware_export.c_layers import matrices
from alula.firmware_export.c_source import entry_note, field_names, render, state_bytes
from alula.firmware_export.c_text import comment
from alula.firmware_export.quantise import Format, table_bytes
from alula.policies.files import write_files
from alula.policies.onnx_file import Policy, load_policy

EXAMPLE = Path(__file__).parent / "targets" / "bare_metal" / "main.c"
"""What a user of a bare microcontroller starts from."""
GOLDEN_FLASH_BYTES = 16_384
"""Golden sequences go into the C as long as they fit here; the first always does."""


@dataclass(frozen=True, kw_only=True)
class CExport:
    """What `export_c` wrote, and what it costs on the target."""

    folder: Path
    """Where the files are."""
    files: tuple[Path, ...]
    """policy.h, policy.c, policy_test.c, example_main.c, README.md."""
    flash_bytes: int
    """Constants: weights, normaliser, command ranges, golden sequences [B]; code comes on top."""
    ram_bytes: int
    """One `policy_t` [B]."""
    macs: int
    """Multiply-accumulates of one step."""
    golden_sequences: int
    """Golden sequences that the self-test on the target replays."""


def export_onnx(policy_path: str | Path, out_dir: str | Path, *, overwrite: bool = False) -> Path:
    """Check a policy file and copy it to `out_dir/policy.onnx`.

    Raises:
        AlulaError: the file is not a sound policy, the target exists and `overwrite` is false, or
            the folder cannot be written.
    """
    policy = load_policy(policy_path)
    write_files(out_dir, {"policy.onnx": policy.data}, overwrite=overwrite)
    return Path(out_dir) / "policy.onnx"


def export_c(
    policy_path: str | Path,
    out_dir: str | Path,
    *,
    formats: Sequence[Format] | None = None,
    overwrite: bool = False,
) -> CExport:
    """Write a policy as C99: policy.h, policy.c, policy_test.c, example_main.c and a README.

    Nothing but the policy file is read, and the same policy file gives the same bytes.

    Args:
        policy_path: policy file.
        out_dir: folder to write into.
        formats: how each matrix is stored, in the order of `matrices`; None is float32 for all.
        overwrite: replace files of the same names.

    Raises:
        AlulaError: the file is not a sound policy, unknown formats, a target exists and `overwrite` is
            false, or the folder cannot be written.
    """
    policy = load_policy(policy_path)
    sequences = _golden_that_fit(policy)
    texts = render(policy, sequences, formats)
    flash, ram = _flash_bytes(policy, sequences, formats), state_bytes(policy, formats)
    texts["README.md"] = _readme(policy, sequences, flash, ram)
    texts["example_main.c"] = EXAMPLE.read_text(encoding="ascii")
    files = {name: text.encode("ascii") for name, text in texts.items()}
    write_files(out_dir, files, overwrite=overwrite)
    return CExport(
        folder=Path(out_dir),
        files=tuple(Path(out_dir) / name for name in files),
        flash_bytes=flash,
        ram_bytes=ram,
        macs=policy.macs,
        golden_sequences=sequences,
    )


def _golden_that_fit(policy: Policy) -> int:
    count, steps, _ = policy.golden.action.shape
    row = policy.contract.supplied_size + policy.contract.action_size
    return max(1, min(count, GOLDEN_FLASH_BYTES // (4 * steps * row)))


def _flash_bytes(policy: Policy, sequences: int, formats: Sequence[Format] | None) -> int:
    contract = policy.contract
    row = contract.supplied_size + contract.action_size
    golden = sequences * policy.golden.action.shape[1] * row
    normaliser, ranges = 2 * contract.observation_size, 2 * contract.action_size
    products = (
        table_bytes(*m.weights.shape, format=m.format) for m in matrices(policy.network, formats)
    )
    factors = contract.observation_size if formats and formats[0] != "float32" else 0
    return sum(products) + 4 * (normaliser + factors + ranges + golden)


def _readme(policy: Policy, sequences: int, flash: int, ram: int) -> str:
    contract = policy.contract
    fields = field_names(contract)
    inputs = "\n".join(
        f"- `{field}[{e.size}]`: {entry_note(e)}"
        for field, e in zip(fields, contract.supplied, strict=True)
    )
    outputs = "\n".join(
        f"- `action[{i}]`: {comment(a.name)}, {comment(a.meaning)}, "
        f"-1 is {a.low:g}, +1 is {a.high:g} [{comment(a.unit)}]"
        for i, a in enumerate(contract.action)
    )
    if any(a.meaning == "end_effector_delta" for a in contract.action):
        outputs += TOOL_NOTE
    return README.format(
        robot=comment(contract.robot),
        task=comment(contract.task),
        rate=round(1.0 / contract.control_dt, 3),
        sha256=policy.sha256,
        inputs=inputs,
        outputs=outputs,
        flash=flash,
        ram=ram,
        macs=policy.macs,
        sequences=sequences,
        all=policy.golden.action.shape[0],
        steps=policy.golden.action.shape[1],
    )


TOOL_NOTE = """

Steps of the tool (`end_effector_delta`) are given as they are, in the world's frame. This C does not turn them into steps
of the joints, which takes the robot's kinematics: the map is in docs/policy-file.md of alula, "Actions"."""

README = """# Policy for {robot}, task {task}

Generated by alula from the policy file with SHA-256 `{sha256}`.
C99 without heap or library (only `<stdint.h>` and `<string.h>`); C++ compiles it too.

```c
#include "policy.h"

static policy_t policy;

/* at start-up: do not fly where this fails */
int ready = policy_self_test(&policy) <= POLICY_GOLDEN_TOLERANCE;

/* in the control loop, at {rate:g} Hz or faster; now_us is any clock that runs forward */
policy_observation_t observation; /* fill every field, in its unit */
float action[POLICY_NUM_ACTIONS], command[POLICY_NUM_ACTIONS];
policy_status_t status;
policy_stamp(&observation, now_us); /* or each time_us[POLICY_FIELD_...] on its own */
status = policy_step(&policy, &observation, now_us, action);
policy_command(action, command);
if ((status & POLICY_LOST) != 0u) {{ /* hand over to another controller */ }}
```

Observation, present samples only (histories are kept inside):

{inputs}

Action:

{outputs}

| | |
| --- | --- |
| constants in flash | {flash} B (the code comes on top) |
| RAM, one `policy_t` | {ram} B |
| multiply-accumulates a step | {macs} |
| golden sequences in the self-test | {sequences} of {all}, {steps} steps each |

`example_main.c` is a control loop for a bare microcontroller; its six board functions are yours to write.
On a computer: `cc -std=c99 -O2 policy.c policy_test.c -o policy_test && ./policy_test`.
"""
