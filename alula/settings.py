"""What `--set` says: settings of a preset by name, and the values to take or to try."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from alula.errors import AlulaError
from alula.presets import Preset

MAX_POINTS = 1000
"""Most points of a grid."""


def parse_settings(
    pairs: Sequence[str], preset: Preset, parts: Sequence[str] = ("algo",)
) -> dict[str, list[Any]]:
    """Values by setting from texts such as "algo.learning_rate=1e-3,3e-3" or "algo.hidden=[64,64],[128,128]".

    Args:
        pairs: the texts.
        preset: whose settings they are.
        parts: what may be set. The learner's settings alone where results shall compare: those of the episodes (sim)
            decide what a policy is evaluated in.

    Raises:
        AlulaError: unknown setting, a value of another kind or out of its range, or a setting or value named twice.
    """
    found: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name in found:
            raise AlulaError(f"--set {pair!r}; allowed: {parts[0]}.NAME=VALUE, each name once")
        now = _get(preset, name, parts)
        values = [_value(name, raw, now) for raw in _split(text)]
        if any(value in values[:i] for i, value in enumerate(values)):
            raise AlulaError(f"--set {pair!r} names a value twice; allowed: each once")
        for value in values:
            with_settings(preset, {name: value})  # the settings' own check of the value
        found[name] = values
    return found


def parse_one(pairs: Sequence[str], preset: Preset) -> dict[str, Any]:
    """One value by setting of the learner (algo) or the episodes (sim), as `with_settings` takes them.

    Raises:
        AlulaError: as `parse_settings`, and more than one value of a setting.
    """
    found = parse_settings(pairs, preset, ("algo", "sim"))
    for name, values in found.items():
        if len(values) > 1:
            raise AlulaError(f"--set names {len(values)} values of {name}; allowed: one")
    return {name: value for name, (value,) in found.items()}


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
        AlulaError: a value that is out of its range.
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


def _get(preset: Preset, name: str, parts: Sequence[str]) -> Any:
    first, *path = name.split(".")
    # the settings that are listed where there is none of that name
    within = first if first in parts else parts[0]
    config, rest = getattr(preset, within), path if first == within else []
    while rest and is_dataclass(inner := getattr(config, rest[0], None)):
        config, within, rest = inner, f"{within}.{rest[0]}", rest[1:]
    names = [f.name for f in fields(config)]
    if len(rest) == 1 and rest[0] in names:
        return getattr(config, rest[0])
    listed = ", ".join(f"{within}.{n}" for n in names)
    raise AlulaError(f"unknown setting {name!r} of preset {preset.name}; allowed: {listed}")


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


def _like(value: Any, now: Any) -> Any:
    """A whole number as a float where the present value is one."""
    return float(value) if isinstance(now, float) and type(value) is int else value


def _value(name: str, text: str, now: Any) -> Any:
    """A value of the same kind as the present one."""
    try:
        value = json.loads(text)
    except ValueError:
        # names stand for themselves
        value = text if isinstance(now, str) else None
    if isinstance(now, tuple) and isinstance(value, list):
        value = tuple(_like(v, now[0]) for v in value)
        alike = len(value) > 0 and all(type(v) is type(now[0]) for v in value)
    else:
        value = _like(value, now)
        alike = type(value) is type(now)
    if not alike:
        like = json.dumps(now).replace(" ", "")
        raise AlulaError(f"{name} is {text!r}; allowed: a value such as {like}")
    return value
