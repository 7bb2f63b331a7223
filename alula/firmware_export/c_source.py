"""The text of the exported C: templates filled from a checked policy."""

import re
from pathlib import Path

from alula.firmware_export.c_text import c_float, comment, identifiers, table
from alula.policies.contract import ACTION_HISTORY, Contract, ObservationEntry
from alula.policies.onnx_file import GOLDEN_TOLERANCE, Policy

TEMPLATES = Path(__file__).parent
RELU = """
static void relu(float *x, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        x[i] = x[i] < 0.0f ? 0.0f : x[i];
    }
}
"""


def render(policy: Policy, sequences: int) -> dict[str, str]:
    """The C files by name, with the first `sequences` golden sequences inside."""
    marks = {
        **_policy_marks(policy, sequences),
        **_network_marks(policy, sequences),
        **_observation_marks(policy.contract),
        "ACTION_NAMES": _action_names(policy.contract),
    }
    return {
        "policy.h": _fill("policy_template.h", marks),
        "policy.c": _fill("policy_template.c", marks),
        "policy_test.c": _fill("policy_test_template.c", marks),
    }


def scratch_sizes(policy: Policy) -> tuple[int, int]:
    """Floats of the two buffers between which the layers alternate; the input is in the first."""
    sizes = [policy.contract.observation_size, *(b.size for b in policy.network.biases)]
    return max(sizes[0::2]), max(sizes[1::2])


def _fill(template: str, marks: dict[str, str]) -> str:
    """The template with every `@MARK@` replaced, in one pass: inserted text is not looked at."""
    text = (TEMPLATES / template).read_text(encoding="ascii")
    return re.sub(r"@([A-Z0-9_]+)@", lambda match: marks[match.group(1)], text)


def _policy_marks(policy: Policy, sequences: int) -> dict[str, str]:
    contract = policy.contract
    summary = contract.training
    training = [f"{k} {summary[k]}" for k in ("preset", "seed", "version") if k in summary]
    return {
        "ROBOT": comment(contract.robot),
        "ROBOT_HASH": comment(contract.robot_hash),
        "TASK": comment(contract.task),
        "TRAINING": comment(", ".join(training)),
        "SHA256": policy.sha256,
        "CONTROL_DT": c_float(contract.control_dt),
        "NUM_OBSERVATIONS": str(contract.observation_size),
        "NUM_SUPPLIED": str(contract.supplied_size),
        "NUM_ACTIONS": str(contract.action_size),
        "GOLDEN_SEQUENCES": str(sequences),
        "GOLDEN_ALL": str(policy.golden.action.shape[0]),
        "GOLDEN_STEPS": str(policy.golden.action.shape[1]),
        "GOLDEN_TOLERANCE": c_float(GOLDEN_TOLERANCE),
        "INITIAL_ACTION": c_float(_initial_action(contract)),
    }


def _initial_action(contract: Contract) -> float:
    """What is held before the first valid observation: the start of the record of actions, or 0."""
    for entry in contract.observation:
        if entry.name == ACTION_HISTORY:
            return min(1.0, max(-1.0, entry.initial))
    return 0.0


def _network_marks(policy: Policy, sequences: int) -> dict[str, str]:
    network = policy.network
    buffers = "scratch_a", "scratch_b"
    calls, inputs = [], policy.contract.observation_size
    for i, bias in enumerate(network.biases):
        source, target = buffers[i % 2], buffers[(i + 1) % 2]
        calls.append(
            f"    dense(policy->{source}, {inputs}u, WEIGHT_{i}, BIAS_{i}, {bias.size}u, "
            f"policy->{target});"
        )
        if i + 1 < len(network.biases):
            calls.append(f"    relu(policy->{target}, {bias.size}u);")
        inputs = bias.size
    scratch = scratch_sizes(policy)
    return {
        "CLIP": c_float(network.clip),
        "SCRATCH_A": str(scratch[0]),
        "SCRATCH_B": str(scratch[1]),
        "OUTPUT": buffers[len(network.biases) % 2],
        "RELU": RELU if len(network.biases) > 1 else "",
        "LAYERS": "\n".join(calls),
        "TABLES": _tables(policy, sequences),
    }


def _tables(policy: Policy, sequences: int) -> str:
    network, contract = policy.network, policy.contract
    tables = [
        table("MEAN", network.mean, "observation mean, in the units of the observation"),
        table("SCALE", network.scale, "reciprocal observation scale"),
    ]
    for i, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        tables.append(table(f"WEIGHT_{i}", w, f"layer {i}, {w.shape[0]} inputs x {w.shape[1]}"))
        tables.append(table(f"BIAS_{i}", b, f"layer {i}"))
    lows, highs = [a.low for a in contract.action], [a.high for a in contract.action]
    tables.append(table("ACTION_LOW", lows, "command at action -1"))
    tables.append(table("ACTION_HIGH", highs, "command at action +1"))
    golden = policy.golden
    tables.append(table("GOLDEN_SUPPLIED", golden.supplied[:sequences], "observations, in order"))
    tables.append(table("GOLDEN_ACTION", golden.action[:sequences], "recorded actions"))
    return "\n\n".join(tables)


def _observation_marks(contract: Contract) -> dict[str, str]:
    """The generated lines that follow the contract's observation entries."""
    names = [e.name for e in contract.supplied]
    fields = dict(zip(names, identifiers(names), strict=True))
    members, finite, record, hold, reset = [], [], [], [], []
    record_action, start = "", 0
    for entry in contract.observation:
        end = start + entry.size * entry.history
        history = f"policy->observation + {start}, {end - start}u, {entry.size}u"
        reset.append(
            f"    for (i = {start}u; i < {end}u; i++) {{\n"
            f"        policy->observation[i] = {c_float(entry.initial)};\n    }}"
        )
        start = end
        if entry.name == ACTION_HISTORY:
            record_action = f"    record({history}, policy->action, 0u);\n"
            continue
        field = fields[entry.name]
        members.append(f"    float {field}[{entry.size}]; /* {entry_note(entry)} */")
        finite.append(f"all_finite(observation->{field}, {entry.size}u)")
        record.append(f"    record({history}, observation->{field}, policy->fresh);")
        if entry.history > 1:
            hold.append(f"        shift({history});\n")
    return {
        "OBSERVATION_FIELDS": "\n".join(members),
        "FINITE": "\n        && ".join(finite),
        "RECORD": "\n".join(record),
        "RECORD_ACTION": record_action,
        "RESET": "\n".join(reset),
        "HOLD": f" else {{\n{''.join(hold)}    }}" if hold else "",
    }


def entry_note(entry: ObservationEntry) -> str:
    """Unit, frame and training conditions of an observation entry, safe in a comment."""
    note = f"[{comment(entry.unit)}] {comment(entry.name)}, frame {comment(entry.frame)}"
    if entry.history > 1:
        note += f", {entry.history} samples of history"
    if entry.noise or entry.delay:
        note += f", trained with noise {entry.noise:g} and delay up to {entry.delay:g} s"
    return note


def _action_names(contract: Contract) -> str:
    names = identifiers(a.name for a in contract.action)
    return "\n".join(
        f"    POLICY_ACTION_{name.upper()} = {i}, /* {comment(a.name)}: {comment(a.meaning)}, "
        f"-1 is {a.low:g}, +1 is {a.high:g} [{comment(a.unit)}] */"
        for i, (name, a) in enumerate(zip(names, contract.action, strict=True))
    )
