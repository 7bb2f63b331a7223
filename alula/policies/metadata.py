"""The metadata of a policy file: a contract and golden sequences as JSON, read with suspicion.

The layout is docs/policy-schema.json. Everything is checked by hand, bounds included, because a policy
file may come from a stranger.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from alula.errors import AlulaError
from alula.policies.contract import SCHEMA_VERSION, ActionEntry, Contract, ObservationEntry

METADATA_KEY = "alula"
"""Key of the ONNX metadata property that holds the JSON."""
MAX_METADATA_BYTES = 8_000_000
MIN_SEQUENCES = 8
MAX_SEQUENCES = 64
MAX_STEPS = 4096
MAX_ENTRIES = 256
MAX_ENTRY_SIZE = 4096
MAX_HISTORY = 1024
MAX_STATE = 1024
MIN_RECURRENT_STEPS = 24
"""Fewest steps of a recurrent policy's golden sequences: enough for its state to have moved far from zero."""
MAX_TEXT = 200
MAX_TRAINING_TEXT = 10_000

Check = Callable[[Any, str], Any]
"""Takes a JSON value and where it stands; returns the checked value or raises AlulaError."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """K recorded sequences of T policy steps that every consumer must reproduce."""

    supplied: np.ndarray
    """Raw observations without `previous_action`, in contract order, float32 [K, T, supplied_size]."""
    action: np.ndarray
    """Actions, float32 [K, T, A]."""
    runtime: str
    """What computed the actions, in words."""


def metadata_text(contract: Contract, golden: Golden, weights_sha256: str) -> str:
    """The metadata as JSON text; floats in full, so that float32 values come back exactly.

    Raises:
        AlulaError: the training summary holds something that JSON cannot say.
    """
    value = {
        "contract": contract.to_json(),
        "weights_sha256": weights_sha256,
        "golden_runtime": golden.runtime,
        "golden": [
            {"supplied": supplied.tolist(), "action": action.tolist()}
            for supplied, action in zip(golden.supplied, golden.action, strict=True)
        ],
    }
    try:
        return json.dumps(sealed(value), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as e:
        raise AlulaError(f"contract is not plain finite JSON: {e}") from None


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """The metadata with the SHA-256 of everything else in them, so that damage shows.

    It is no signature: whoever changes a file on purpose can seal it again.
    """
    rest = {key: item for key, item in value.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return {**rest, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def parse_metadata(text: str) -> tuple[Contract, Golden, str]:
    """Contract, golden sequences and the SHA-256 of the weights from the JSON text.

    Raises:
        AlulaError: not JSON, wrong version, missing, unknown, mistyped or out-of-bounds values, or damaged.
    """
    if len(text) > MAX_METADATA_BYTES:
        raise AlulaError(f"metadata of {len(text)} characters; allowed: {MAX_METADATA_BYTES}")
    try:
        value = json.loads(text, parse_float=_finite_float, parse_constant=_finite_float)
    except AlulaError:
        raise
    except (ValueError, RecursionError) as e:
        raise AlulaError(f"metadata is not JSON: {str(e).splitlines()[0]}") from None
    spec: dict[str, Check] = {
        "contract": contract_from_json,
        "weights_sha256": _text,
        "golden_runtime": _text,
        "golden": _list_of(_sequence, MAX_SEQUENCES),
        "sha256": _text,
    }
    fields = _object(value, "metadata", spec)
    contract: Contract = fields["contract"]
    golden = _golden(fields["golden"], contract, fields["golden_runtime"])
    if sealed(value)["sha256"] != fields["sha256"]:
        raise AlulaError("the metadata are not the recorded ones (SHA-256 differs): damaged")
    return contract, golden, fields["weights_sha256"]


def contract_from_json(value: Any, where: str = "contract") -> Contract:
    """A contract from its plain JSON values, every one checked.

    Raises:
        AlulaError: wrong version, missing, unknown, mistyped or out-of-bounds values.
    """
    if isinstance(value, dict) and value.get("schema_version") != SCHEMA_VERSION:
        found = _short(value.get("schema_version"))
        raise AlulaError(f"schema version {found}; this alula reads {SCHEMA_VERSION}")
    fields = _object(value, where, CONTRACT_SPEC)
    contract = Contract(**fields)
    if contract.supplied_size == 0:
        raise AlulaError("contract has no observation entry that the robot supplies")
    return contract


def _golden(sequences: list[dict[str, Any]], contract: Contract, runtime: str) -> Golden:
    if len(sequences) < MIN_SEQUENCES:
        raise AlulaError(f"{len(sequences)} golden sequences; allowed: at least {MIN_SEQUENCES}")
    steps = len(sequences[0]["supplied"])
    longest = max(e.history for e in contract.observation)
    if steps <= longest:
        raise AlulaError(
            f"golden sequences of {steps} steps; allowed: more than the longest history {longest}"
        )
    if contract.recurrent_state_size and steps < MIN_RECURRENT_STEPS:
        raise AlulaError(
            f"golden sequences of {steps} steps for a recurrent policy; "
            f"allowed: at least {MIN_RECURRENT_STEPS}"
        )
    count = len(sequences)
    supplied = _array([s["supplied"] for s in sequences], (count, steps, contract.supplied_size))
    action = _array([s["action"] for s in sequences], (count, steps, contract.action_size))
    return Golden(supplied=supplied, action=action, runtime=runtime)


def _array(rows: list, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        raise AlulaError("golden sequences are not arrays of numbers of one shape") from None
    if array.shape != shape:
        raise AlulaError(f"golden sequences have shape {array.shape}; the contract says {shape}")
    if not np.isfinite(array).all():
        raise AlulaError("golden sequences hold numbers beyond float32")
    return array


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise AlulaError(f"metadata hold the number {text[:40]}; allowed: finite numbers")
    return number


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise AlulaError(
            f"{where} is {_short(value)}; allowed: printable text up to {MAX_TEXT} characters"
        )
    return value


def _name(value: Any, where: str) -> str:
    if not _text(value, where):
        raise AlulaError(f"{where} is empty; allowed: a name")
    return value


def _number(value: Any, where: str) -> float:
    # bool is an int in Python but no number in JSON.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e30:
        raise AlulaError(f"{where} is {_short(value)}; allowed: a number within +-1e30")
    return float(value)


def _count(low: int, high: int) -> Check:
    def check(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise AlulaError(f"{where} is {_short(value)}; allowed: a whole number {low}..{high}")
        return value

    return check


def _list_of(item: Check, most: int) -> Check:
    def check(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise AlulaError(f"{where} is {_short(value)}; allowed: a list of at most {most}")
        return [item(v, f"{where}[{i}]") for i, v in enumerate(value)]

    return check


def _object(value: Any, where: str, spec: dict[str, Check]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise AlulaError(f"{where} is {_short(value)}; allowed: an object")
    for key in spec:
        if key not in value:
            raise AlulaError(f"{where} lacks {key!r}")
    for key in value:
        if key not in spec:
            raise AlulaError(f"{where} holds the unknown {_short(key)}; known: {', '.join(spec)}")
    return {key: check(value[key], f"{where}.{key}") for key, check in spec.items()}


def _sequence(value: Any, where: str) -> dict[str, Any]:
    rows = _list_of(_row, MAX_STEPS)
    return _object(value, where, {"supplied": rows, "action": rows})


def _row(value: Any, where: str) -> list[Any]:
    # The types inside are looked at here, since numpy would turn "1" and true into numbers.
    if not isinstance(value, list) or not {type(x) for x in value} <= {int, float}:
        raise AlulaError(f"{where} is {_short(value)}; allowed: a list of numbers")
    return value


def _observation(value: Any, where: str) -> ObservationEntry:
    return ObservationEntry(**_object(value, where, OBSERVATION_SPEC))


def _action(value: Any, where: str) -> ActionEntry:
    return ActionEntry(**_object(value, where, ACTION_SPEC))


def _training(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise AlulaError(f"{where} is {_short(value)}; allowed: an object")
    _check_texts(value, where)
    return value


def _check_texts(value: Any, where: str) -> None:
    """Refuse texts that would garble a terminal or a page; the summary is free in all else."""
    if isinstance(value, str):
        plain = value.replace("\n", "").replace("\t", "")
        if len(value) > MAX_TRAINING_TEXT or not plain.isprintable():
            raise AlulaError(f"{where} holds {_short(value)}; allowed: printable text")
    elif isinstance(value, dict):
        for key, item in value.items():
            _name(key, where)
            _check_texts(item, where)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, where)


def _entries(item: Check) -> Check:
    check = _list_of(item, MAX_ENTRIES)
    return lambda value, where: tuple(check(value, where))


OBSERVATION_SPEC: dict[str, Check] = {
    "name": _name,
    "unit": _text,
    "frame": _text,
    "size": _count(1, MAX_ENTRY_SIZE),
    "history": _count(1, MAX_HISTORY),
    "delay": _number,
    "noise": _number,
    "initial": _number,
}
ACTION_SPEC: dict[str, Check] = {
    "name": _name,
    "low": _number,
    "high": _number,
    "unit": _text,
    "meaning": _text,
}
CONTRACT_SPEC: dict[str, Check] = {
    "robot": _name,
    "robot_hash": _name,
    "task": _name,
    "control_dt": _number,
    "observation": _entries(_observation),
    "action": _entries(_action),
    "recurrent_state_size": _count(0, MAX_STATE),
    "training": _training,
    "schema_version": _count(SCHEMA_VERSION, SCHEMA_VERSION),
}
