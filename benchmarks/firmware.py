"""Instructions of a policy step on microcontrollers, counted in the emulator, and what a policy costs there.

    python benchmarks/firmware.py [--write]

Instructions, not cycles: the emulator counts what is executed, and neither memory nor the pipeline makes it wait. The
counts are repeatable; they do not depend on how busy this computer is. The networks hold random numbers, on which the
count does not depend. `--write` puts the table into benchmarks/results/firmware.md.
"""

import argparse
import datetime
import re
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from alula.build import build_contract, build_task
from alula.errors import AlulaError
from alula.firmware_export.c_export import export_c
from alula.firmware_export.c_layers import Format, matrices
from alula.firmware_export.c_text import table
from alula.firmware_export.emulator import instructions
from alula.firmware_export.toolchain import TARGETS, Target, footprint
from alula.policies.contract import Contract
from alula.policies.network import Gru, Network
from alula.policies.onnx_file import Policy, load_policy, write_policy
from alula.presets import get_preset
from alula.robots.multirotor import load_robot

RESULT = Path(__file__).parent / "results" / "firmware.md"
NAIVE = """
static void naive(const float *x, uint32_t inputs, const float *w, const float *b, uint32_t outputs, float *y)
{
    for (uint32_t j = 0; j < outputs; j++) {
        float sum = b[j];
        for (uint32_t i = 0; i < inputs; i++) {
            sum += x[i] * w[j * inputs + i];
        }
        y[j] = sum;
    }
}
"""
"""The loops one writes first: for each layer, for each output, for each input; weights [output][input]."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    network: str
    """Which network."""
    target: Target
    """Processor."""
    weights: str
    """How the weights are stored, and which kernels."""
    step: float
    """Instructions of a step, median."""
    step_max: float
    """The most over all golden sequences."""
    between: float
    """Instructions of a call where no step is due."""
    macs: int
    """Multiply-accumulates of a step."""
    constants: int
    """Constants without the golden sequences [B]."""
    code: int
    """Machine code [B]."""
    ram: int
    """One policy_t [B]."""
    stack: int
    """Deepest stack of policy_step [B]."""


def contract(past_actions: int, recurrent: int = 0) -> Contract:
    """The hover contract with so many past actions."""
    preset = get_preset("l2f-hover")
    preset = replace(preset, sim=replace(preset.sim, history=past_actions))
    made = build_contract(preset, load_robot(preset.robot), build_task("hover"), {})
    return replace(made, recurrent_state_size=recurrent)


def network(sizes: list[int], state: int = 0) -> Network:
    """Random layers of these sizes; with a state, a GRU stands after the first layer."""
    rng = np.random.default_rng(0)

    def matrix(inputs: int, outputs: int) -> np.ndarray:
        return rng.normal(0.0, inputs**-0.5, (inputs, outputs)).astype(np.float32)

    def bias(outputs: int) -> np.ndarray:
        return rng.normal(0.0, 0.1, outputs).astype(np.float32)

    gru, inputs = None, sizes[:-1]
    if state:
        gates = 3 * state
        gru = Gru(
            kernel=matrix(sizes[1], gates),
            recurrent=matrix(state, gates),
            bias=bias(gates),
            recurrent_bias=bias(gates),
        )
        inputs[1] = state
    return Network(
        mean=np.zeros(sizes[0], np.float32),
        scale=np.ones(sizes[0], np.float32),
        clip=5.0,
        weights=tuple(matrix(i, o) for i, o in zip(inputs, sizes[1:], strict=True)),
        biases=tuple(bias(o) for o in sizes[1:]),
        gru=gru,
        gru_after=1 if state else 0,
    )


NETWORKS = {
    "82-64-64-4, 16 past actions": (contract(16), network([82, 64, 64, 4])),
    "146-64-64-4, 32 past actions": (contract(32), network([146, 64, 64, 4])),
    "22-16-GRU 16-4, 1 past action": (contract(1, 16), network([22, 16, 4], state=16)),
}


def make_naive(policy: Policy, folder: Path) -> None:
    """Replace the kernels and tables of an export by straightforward loops over plain matrices."""
    path = folder / "policy.c"
    source = path.read_text()
    source = re.sub(r"/\* y = x W \+ b for.*?\n}\n", "", source, flags=re.S)
    source = source.replace("static uint32_t normalise(", f"{NAIVE}\nstatic uint32_t normalise(", 1)
    # The comment of normalise now stands before the loops, which harms nobody.
    for m in matrices(policy.network):
        inputs, outputs = m.weights.shape
        plain = table(f"WEIGHT_{m.name}", m.weights.T, m.note)
        pattern = rf"/\*[^*]*\*/\nstatic const float WEIGHT_{m.name}\[\d+\] = {{.*?}};"
        source = re.sub(pattern, lambda _, text=plain: text, source, count=1, flags=re.S)
        call = rf"    dense_\d+\(policy->(\w+), {inputs}u, WEIGHT_{m.name}, BIAS_{m.name}, \d+u, policy->(\w+)\);\n"
        plain_call = f"    naive(policy->\\1, {inputs}u, WEIGHT_{m.name}, BIAS_{m.name}, {outputs}u, policy->\\2);\n"
        source, found = re.subn(call, plain_call, source)
        if found != 1:
            raise AlulaError(f"call of matrix {m.name} found {found} times; allowed: once")
        source = re.sub(rf"    dense_\d+\([^;]*WEIGHT_{m.name} \+[^;]*;\n", "", source)
    path.write_text(source)


def measure(name: str, target: Target, weights: str, folder: Path) -> Row:
    """Export, compile, run all golden sequences."""
    wanted, layers = NETWORKS[name]
    path = folder / "policy.onnx"
    write_policy(path, layers, wanted, overwrite=True)
    policy = load_policy(path)
    formats: list[Format] = (
        [weights] * len(matrices(policy.network)) if weights in get_args(Format) else []
    )
    made = export_c(path, folder / "c", formats=formats or None, overwrite=True)
    if not formats:
        make_naive(policy, folder / "c")
    counted = instructions(policy, folder / "c", target)
    cost = footprint(folder / "c", target)
    golden = made.golden_sequences * policy.golden.action.shape[1]
    row = wanted.supplied_size + wanted.action_size
    return Row(
        network=name,
        target=target,
        weights=weights,
        step=counted.step,
        step_max=counted.step_max,
        between=counted.between,
        macs=policy.macs,
        constants=cost.constant_bytes - 4 * golden * row,
        code=cost.code_bytes,
        ram=cost.ram_bytes,
        stack=cost.step_stack_bytes,
    )


def render(rows: list[Row]) -> str:
    """The table in Markdown."""
    versions = []
    for command in ("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "qemu-system-arm"):
        told = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
        versions.append(told.stdout.splitlines()[0])
    lines = [
        "# A policy step on microcontrollers",
        "",
        f"{datetime.date.today()}; {'; '.join(versions)}; -O2. Made by `python benchmarks/firmware.py --write`.",
        "",
        "Instructions of `policy_step`, counted in the emulator over all golden sequences: median, most, and for a call",
        "where no step is due. They are instructions, not cycles: a Cortex-M4F needs more than one cycle for many of them.",
        "The floor is one load and one multiply-accumulate for each weight. `plain loops` is the same library with the",
        "loops one writes first in place of our kernels. Bytes are the compiler's own reports; constants without the",
        "golden sequences of the self-test.",
        "",
        "| network | processor | weights | instructions | most | per weight | over the floor | of plain loops | between steps | constants [B] | code [B] | RAM [B] | stack [B] |",
        "| --- | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for r in rows:
        naive = next(
            x
            for x in rows
            if (x.network, x.target, x.weights) == (r.network, r.target, "plain loops")
        )
        lines.append(
            f"| {r.network} | {r.target.title} | {r.weights} | {r.step:.0f} | {r.step_max:.0f} | {r.step / r.macs:.2f} "
            f"| {r.step / (2 * r.macs):.2f} | {r.step / naive.step:.2f} | {r.between:.0f} | {r.constants} | {r.code} "
            f"| {r.ram} | {r.stack} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/firmware.md")
    write = parser.parse_args().write
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in NETWORKS:
            for target in TARGETS.values():
                for weights in ("plain loops", *get_args(Format)):
                    rows.append(measure(name, target, weights, Path(scratch)))
                    print(rows[-1], flush=True)
    text = render(rows)
    print(text)
    if write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
