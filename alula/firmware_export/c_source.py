"""The text of the exported C: templates filled from a checked policy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alula.errors import AlulaError
from alula.firmware_export.c_layers import KERNELS, Format, Layers, c_layers
from alula.firmware_export.c_text import c_float, comment, fill, identifiers, table
from alula.firmware_export.quantise import network_step
from alula.policies.contract import ACTION_HISTORY, Contract, ObservationEntry
from alula.policies.golden import replay
from alula.policies.network import Controller
from alula.policies.onnx_file import GOLDEN_TOLERANCE, Policy

TEMPLATES = Path(__file__).parent
STALE_STEPS = 3
"""Steps that an input may be older than the oldest in training."""
LOST_STEPS = 10
"""Held steps after which the policy counts as lost."""
FACTOR_NOTE = "powers of two by which the inputs are multiplied and the int8 rows divided"
QUANTISED_TOLERANCE = 5e-3
"""POLICY_GOLDEN_TOLERANCE with int16 activations: a last bit of an input may turn one whole number into the next."""
MAX_TIME_US = 2**31 - 1
"""Longest pause and age that the C counts with [us]."""
RESTART_STEPS = 10
"""Shortest pause that may start the histories anew [steps]; the longest history where that is longer."""


@dataclass(frozen=True, kw_only=True)
class _Field:
    """An observation entry and where it lives in the C."""

    entry: ObservationEntry
    name: str
    """C identifier."""
    first: int
    """Place of its oldest float in the network's input."""

    @property
    def length(self) -> int:
        """Floats in the network's input."""
        return self.entry.size * self.entry.history

    @property
    def own(self) -> bool:
        """Whether the policy keeps it itself: its own past actions."""
        return self.entry.name == ACTION_HISTORY

    @property
    def ring(self) -> bool:
        """Whether past samples are kept."""
        return self.own or self.entry.history > 1

    @property
    def supplied_ring(self) -> bool:
        """Whether past samples of what the robot supplies are kept."""
        return self.ring and not self.own

    def push(self, sample: str) -> str:
        """The call that records a sample."""
        return (
            f"push(policy->history_{self.name}, {self.length}u, &policy->oldest_{self.name}, "
            f"{sample}, {self.entry.size}u);"
        )


def render(
    policy: Policy, sequences: int, formats: Sequence[Format] | None = None
) -> dict[str, str]:
    """The C files by name, with the first `sequences` golden sequences inside."""
    contract, golden = policy.contract, policy.golden
    layers = c_layers(policy.network, formats)
    supplied, actions = golden.supplied[:sequences], golden.action[:sequences]
    if layers.quantised:
        # The self-test is to find damage and wrong compilers, so it expects what these weights answer; how far
        # that is from float32 is measured before the export.
        step = network_step(policy.network, formats or ())
        controller = Controller(step, policy.network.state_size, sequences)
        actions = replay(contract, controller, supplied)
    fields = _fields(contract)
    marks = {
        **_policy_marks(policy, sequences),
        **_header_marks(contract, fields),
        **_network_marks(policy, layers, fields),
        "GOLDEN_TOLERANCE": c_float(
            QUANTISED_TOLERANCE if layers.quantised_words else GOLDEN_TOLERANCE
        ),
        "TABLES": "\n\n".join([*_tables(policy, layers), *_golden_tables(supplied, actions)]),
        **_observation_marks(contract, fields),
        **_history_marks(fields, layers),
        "STATE": "\n".join(_state(fields, layers)),
    }
    names = {"policy.h": "policy_template.h", "policy.c": "policy_template.c"}
    names["policy_test.c"] = "policy_test_template.c"
    return {name: fill(TEMPLATES / template, marks) for name, template in names.items()}


def state_bytes(policy: Policy, formats: Sequence[Format] | None = None) -> int:
    """Size of one `policy_t` where 64-bit integers are aligned to 8 bytes."""
    contract, layers = policy.contract, c_layers(policy.network, formats)
    rings = [f for f in _fields(contract) if f.ring]
    floats = sum(f.length for f in rings) + sum(layers.buffers.values()) + contract.action_size
    counters = 11
    words = len(contract.supplied) + 1 + counters
    tail = 2 + len(rings) + floats + layers.quantised_words
    # two 64-bit times in between, aligned, and the whole rounded up to their alignment
    return 8 * ((words + 1) // 2) + 16 + 8 * ((tail + 1) // 2)


def field_names(contract: Contract) -> list[str]:
    """C identifiers of the supplied entries, in order; none is one that the policy uses itself."""
    return identifiers(["time_us", ACTION_HISTORY, *(e.name for e in contract.supplied)])[2:]


def action_names(contract: Contract) -> list[str]:
    """C identifiers of the actions, in order; none makes POLICY_ACTION_NAMES twice."""
    return identifiers(["names", *(a.name for a in contract.action)])[1:]


def entry_note(entry: ObservationEntry) -> str:
    """Unit, frame and training conditions of an observation entry, safe in a comment."""
    note = f"[{comment(entry.unit)}] {comment(entry.name)}, frame {comment(entry.frame)}"
    if entry.history > 1:
        note += f", {entry.history} samples of history"
    if entry.noise or entry.delay:
        note += f", trained with noise {entry.noise:g} and delay up to {entry.delay:g} s"
    return note


def _fields(contract: Contract) -> list[_Field]:
    supplied = iter(field_names(contract))
    result, first = [], 0
    for entry in contract.observation:
        name = ACTION_HISTORY if entry.name == ACTION_HISTORY else next(supplied)
        result.append(_Field(entry=entry, name=name, first=first))
        first += entry.size * entry.history
    return result


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
        "NUM_FIELDS": str(len(contract.supplied)),
        "NUM_ACTIONS": str(contract.action_size),
        "GOLDEN_SEQUENCES": str(sequences),
        "GOLDEN_ALL": str(policy.golden.action.shape[0]),
        "GOLDEN_STEPS": str(policy.golden.action.shape[1]),
        "INITIAL_ACTION": c_float(_initial_action(contract)),
    }


def _header_marks(contract: Contract, fields: list[_Field]) -> dict[str, str]:
    """Times, and the order of fields and actions."""
    step_us = round(1e6 * contract.control_dt)
    longest = max(e.history for e in contract.observation)
    supplied = [f for f in fields if not f.own]
    # age limit = largest age in training + STALE_STEPS steps
    stale = [round(1e6 * f.entry.delay) + STALE_STEPS * step_us for f in supplied]
    restart_us = step_us * max(longest, RESTART_STEPS)
    if step_us < 1 or min(stale) < 0 or max(restart_us, *stale) > MAX_TIME_US:
        raise AlulaError(
            f"steps of {contract.control_dt:g} s with delays of {[f.entry.delay for f in supplied]} s "
            f"and {longest} samples of history; the C allows steps from 1e-06 s and times to "
            f"{1e-6 * MAX_TIME_US:.0f} s"
        )
    actions = action_names(contract)
    notes = [
        f"{comment(a.name)}: {comment(a.meaning)}, -1 is {a.low:g}, +1 is {a.high:g} [{comment(a.unit)}]"
        for a in contract.action
    ]
    return {
        "STEP_US": str(step_us),
        "EARLY_US": str(step_us // 8),
        "RESTART_US": str(restart_us),
        "LOST_STEPS": str(LOST_STEPS),
        "STALE_US": ", ".join(f"{s}u" for s in stale),
        "FIELD_INDICES": _enum("FIELD", [f.name for f in supplied]),
        "ACTION_NAMES": _enum("ACTION", actions, notes),
        "ACTION_NAME_STRINGS": ", ".join(f'"{comment(a.name)}"' for a in contract.action),
    }


def _enum(kind: str, names: list[str], notes: Iterable[str] = ()) -> str:
    rows = [f"POLICY_{kind}_{name.upper()} = {i}" for i, name in enumerate(names)]
    comments = [f" /* {note} */" for note in notes] or [""] * len(rows)
    ends = [","] * (len(rows) - 1) + [""]
    return "\n".join(f"    {r}{e}{c}" for r, e, c in zip(rows, ends, comments, strict=True))


def _initial_action(contract: Contract) -> float:
    """The action before the first valid observation: the start of the record of actions, or 0."""
    for entry in contract.observation:
        if entry.name == ACTION_HISTORY:
            return min(1.0, max(-1.0, entry.initial))
    return 0.0


def _state(fields: list[_Field], layers: Layers) -> list[str]:
    """Members of `policy_t` that depend on the policy."""
    rings = [f for f in fields if f.ring]
    words = layers.quantised_words
    note = "activations as int16, two a word"
    quantised = [f"    uint32_t quantised[{words}]; /* {note} */"] if words else []
    return [
        *(f"    uint32_t oldest_{f.name}; /* index of the oldest float below */" for f in rings),
        *(f"    float history_{f.name}[{f.length}];" for f in rings),
        *(f"    float {name}[{size}];" for name, size in layers.buffers.items()),
        *quantised,
    ]


def _tables(policy: Policy, layers: Layers) -> list[str]:
    network, action = policy.network, policy.contract.action
    factors = [] if layers.factors is None else [table("FACTOR", layers.factors, FACTOR_NOTE)]
    return [
        table("MEAN", network.mean, "observation mean, in the units of the observation"),
        table("SCALE", network.scale, "reciprocal observation scale"),
        *factors,
        *layers.tables,
        table("ACTION_LOW", [a.low for a in action], "command at action -1"),
        table("ACTION_HIGH", [a.high for a in action], "command at action +1"),
    ]


def _golden_tables(supplied: np.ndarray, actions: np.ndarray) -> list[str]:
    return [
        table("GOLDEN_SUPPLIED", supplied, "observations, in order"),
        table("GOLDEN_ACTION", actions, "recorded actions"),
    ]


def _network_marks(policy: Policy, layers: Layers, fields: list[_Field]) -> dict[str, str]:
    network = policy.network
    kernels = [*layers.kernels.values()]
    needed = {
        "history.c": any(f.ring for f in fields),
        "newest.c": any(f.supplied_ring for f in fields),
    }
    kernels += [(KERNELS / name).read_text(encoding="ascii") for name, use in needed.items() if use]
    return {
        "CLIP": c_float(network.clip),
        "FACTOR": "" if layers.factors is None else " * FACTOR[first + i]",
        "CLIP_BITS": hex(int(np.float32(network.clip).view(np.uint32))),
        "KERNELS": "".join(f"\n{kernel}" for kernel in kernels),
        "LAYERS": "\n".join(layers.calls),
        "OUTPUT": layers.output,
    }


def _observation_marks(contract: Contract, fields: list[_Field]) -> dict[str, str]:
    """The generated lines that follow the contract's observation entries."""
    members, finite, record, normalise, golden, row = [], [], [], [], [], 0
    for f in fields:
        size = f.entry.size
        if f.ring:
            normalise.append(
                f"    clipped |= normalise_history(policy->scratch_a, {f.first}u, "
                f"policy->history_{f.name}, {f.length}u,\n"
                f"                                 policy->oldest_{f.name});"
            )
        else:
            normalise.append(
                f"    clipped |= normalise(policy->scratch_a, {f.first}u, observation->{f.name}, {size}u);"
            )
        if f.own:
            continue
        members.append(f"    float {f.name}[{size}]; /* {entry_note(f.entry)} */")
        finite.append(f"all_below(INFINITY_BITS, observation->{f.name}, {size}u)")
        golden.append(
            f"        memcpy(observation.{f.name}, row + {row}u, sizeof observation.{f.name});"
        )
        row += size
        if f.ring:
            record += [
                f"    for (i = policy->fresh != 0u ? {f.entry.history}u : 1u; i != 0u; i--) {{",
                f"        {f.push(f'observation->{f.name}')}",
                "    }",
            ]
    if record:
        record.insert(0, "    uint32_t i;")
    return {
        "OBSERVATION_FIELDS": "\n".join(members),
        "FINITE": "\n        && ".join(finite),
        "RECORD": "".join(f"{line}\n" for line in record),
        "NORMALISE": "\n".join(normalise),
        "GOLDEN_FIELDS": "\n".join(golden),
    }


def _history_marks(fields: list[_Field], layers: Layers) -> dict[str, str]:
    """Reset of the past, and what advances it when nothing new has come."""
    own = [f for f in fields if f.own]
    rings = [f for f in fields if f.ring]
    supplied = [f for f in rings if not f.own]
    repeat = [
        "    " + f.push(f"newest(policy->history_{f.name}, {f.length}u, policy->oldest_{f.name}, "
                        f"{f.entry.size}u)")
        for f in supplied
    ]  # fmt: skip
    record_action = [f"        {f.push('policy->action')}" for f in own]
    advance = []
    if supplied:
        advance += [
            "",
            "/* Nothing new has come: the newest samples once more, so that the histories keep their time. */",
        ]
        advance += ["static void repeat_samples(policy_t *policy)", "{", *repeat, "}", ""]
    missed = []
    if rings:
        missed = ["        for (i = 0; i < missed; i++) {"]
        missed += ["            repeat_samples(policy);"] if supplied else []
        missed += [f"    {line}" for line in record_action] + ["        }"]
    reset = []
    for f in rings:
        reset += [
            f"    for (i = 0; i < {f.length}u; i++) {{",
            f"        policy->history_{f.name}[i] = {c_float(f.entry.initial)};",
            "    }",
            f"    policy->oldest_{f.name} = 0u;",
        ]
    if "recurrent" in layers.buffers:
        reset.append("    memset(policy->recurrent, 0, sizeof policy->recurrent);")
    return {
        "ADVANCE": "\n".join(advance),
        "HOLD": "        repeat_samples(policy);\n" if supplied else "",
        "MISSED_INDEX": "    uint32_t i;\n" if rings else "",
        "ADVANCE_MISSED": "".join(f"{line}\n" for line in missed),
        "RECORD_ACTION": "".join(f"{line}\n" for line in record_action),
        "RESET_INDEX": "    uint32_t i;\n" if rings else "",
        "RESET": "".join(f"{line}\n" for line in reset),
    }
