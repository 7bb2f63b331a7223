"""The setting of its episodes that a policy file holds, read back and checked."""

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from alula.errors import AlulaError
from alula.sim.arm_config import ArmSimConfig
from alula.sim.config import Disturbances, Limits, Randomization, SimConfig, Start

Settings = TypeVar("Settings")


def sim_config_from_json(table: Any) -> SimConfig:
    """The flight setting stored in a policy file (`contract.training["sim"]`).

    Raises:
        AlulaError: a setting is missing, unknown, of another type, or out of its range.
    """
    try:
        draws: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in table["randomization"].items()
        }
        parts: dict[str, Any] = {
            "start": Start(**table["start"]),
            "limits": Limits(**table["limits"]),
            "randomization": Randomization(**draws),
            "disturbances": Disturbances(**table["disturbances"]),
        }
        return SimConfig(**{**table, **parts})
    except AlulaError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError) as e:
        raise AlulaError(f"the policy's flight setting cannot be read: {e}") from None


def arm_config_from_json(table: Any) -> ArmSimConfig:
    """The setting of an arm's episodes stored in a policy file (`contract.training["sim"]`).

    Raises:
        AlulaError: a setting is unknown, of another type, or out of its range.
    """
    try:
        # Settings that came later may be missing in older files, this one not.
        if "action" not in table:
            raise KeyError("action")
        return _settings(ArmSimConfig, table)
    except AlulaError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError) as e:
        raise AlulaError(f"the policy's setting of its episodes cannot be read: {e}") from None


def _settings(kind: type[Settings], table: dict[str, Any]) -> Settings:
    """A settings class from JSON; every value must be of its default's kind."""
    hints, values = get_type_hints(kind), {}
    defaults = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
    for name, value in table.items():
        if name not in hints:
            raise AlulaError(f"unknown setting {name!r}; known: {', '.join(hints)}")
        if is_dataclass(hints[name]):
            values[name] = _settings(hints[name], value)
            continue
        value = tuple(value) if isinstance(value, list) else value
        if not _alike(value, defaults[name]):
            raise AlulaError(f"{name} is {value!r}; allowed: such as {defaults[name]!r}")
        values[name] = value
    return kind(**values)


def _alike(value: Any, default: Any) -> bool:
    """Whether a value has the kind of another; whole numbers are numbers, too."""
    if isinstance(default, tuple):
        fits = isinstance(value, tuple) and len(value) == len(default)
        return fits and all(map(_alike, value, default))
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)
