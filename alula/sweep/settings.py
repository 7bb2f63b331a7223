"""What `--set` of a sweep says: settings of the learner by name, and the values to try."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from alula.errors import AlulaError
from alula.presets import Preset

MAX_POINTS = 1000
"""Most points of a grid."""


def parse_settings(pairs: Sequence[str], preset: Preset) -> dict[str, list[Any]]:
    """Values by setting from texts such as "algo.learning_rate=1e-3,3e-3" or "algo.hidden=[64,64],[128,128]".

    Only the learner's settings: those of the episodes (sim) decide what a policy is evaluated in, so that their results
    would not compare.

    Raises:
        AlulaError: unknown setting, a value of another kind or out of its range, or a setting or value named twice.
    """
    found: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name in found:
            raise AlulaError(f"--set {pair!r}; allowed: algo.NAME=VALUE,VALUE,..., each name once")
        now = _get(preset, name)
        values = [_value(name, raw, now) for raw in _split(text)]
        if any(value in values[:i] for i, value in enumerate(values)):
            raise AlulaError(f"--set {pair!r} names a value twice; allowed: each once")
        for value in values:
            with_settings(preset, {name: value})  # the learner's own check of the value
        found[name] = values
    return found


def grid(settings: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values, the last setting changing first; one empty one without settings.

    Raises:
        AlulaError: more than MAX_POINTS.
    """
    points = [
        dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())
    ]
    if len(points) > MAX_POINTS:
        raise AlulaError(f"the grid has {len(points)} points; allowed: up to {MAX_POINTS}")
    return points


def with_settings(preset: Preset, settings: Mapping[str, Any]) -> Preset:
    """The preset with other settings, by dotted name.

    Raises:
        AlulaError: a value that the learner refuses.
    """
    for name, value in settings.items():
        preset = _replaced(preset, name.split("."), value)
    return preset


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as people and `--set` write them; that of no settings says so."""
    parts = []
    for name, value in settings.items():
        shown = f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
        parts.append(f"{name}={shown}".replace(" ", ""))
    return " ".join(parts) or "as in the preset"


def _replaced(config: Any, path: list[str], value: Any) -> Any:
    first, *rest = path
    inner = _replaced(getattr(config, first), rest, value) if rest else value
    return replace(config, **{first: inner})


def _get(preset: Preset, name: str) -> Any:
    first, *path = name.split(".")
    value: Any = preset.algo
    known = "algo"
    for part in path:
        names = [f.name for f in fields(value)] if is_dataclass(value) else []
        if part not in names:
            break
        value, known = getattr(value, part), f"{known}.{part}"
    if first != "algo" or known != name or is_dataclass(value):
        inner: Any = value if is_dataclass(value) else preset.algo
        listed = ", ".join(f"{known}.{f.name}" for f in fields(inner))
        raise AlulaError(f"unknown setting {name!r} of preset {preset.name}; allowed: {listed}")
    return value


def _split(text: str) -> list[str]:
    """At the commas outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _value(name: str, text: str, now: Any) -> Any:
    """A value of the same kind as the present one."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(now, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(now, tuple) and isinstance(value, list):
        value = tuple(value)
        alike = len(value) > 0 and all(type(v) is type(now[0]) for v in value)
    else:
        alike = type(value) is type(now)
    if not alike:
        like = json.dumps(now).replace(" ", "")
        raise AlulaError(f"{name} is {text!r}; allowed: a value such as {like}")
    return value
