"""The parameters of single environments, drawn anew for each episode around the model's."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np

from alula.sim.arm_config import ArmRandomization
from alula.sim.mujoco.physics import Physics

SCALED = {
    "mass": ("body_mass", "body_inertia", "body_gravcomp"),
    "friction": ("geom_friction", "pair_friction"),
    "damping": ("dof_damping",),
    "armature": ("dof_armature",),
    "frictionloss": ("dof_frictionloss",),
    "gain": ("actuator_gainprm", "actuator_biasprm"),
}
"""Fields of the model that a setting of `ArmRandomization` scales, the one that names its places first."""


class Randomizer:
    """Draws the parameters and writes them into the fields of the single environments."""

    def __init__(
        self, physics: Physics, model: mujoco.MjModel, n_envs: int, random: ArmRandomization
    ) -> None:
        self._physics, self._random, self._timestep = physics, random, model.opt.timestep
        self._fields: dict[str, np.ndarray] = {}
        self._nominal: dict[str, np.ndarray] = {}
        self._places: dict[str, np.ndarray] = {}
        for setting, fields in SCALED.items():
            if getattr(random, setting) > 0.0:
                self._places[setting] = _places(model, setting)
                for name in fields:
                    self._expand(model, name)
        if random.actuator_lag[1] > 0.0:
            self._expand(model, "actuator_dynprm")
        if random.actuator_delay[1] > 0.0:
            self._expand(model, "actuator_delay")
        self.factors = {k: np.ones((n_envs, len(at))) for k, at in self._places.items()}
        """What was drawn, by setting, relative to the model's (N, number of places)."""
        self.lag, self.delay = np.zeros((n_envs, 1)), np.zeros((n_envs, 1))
        """Time constant and delay of the actuators [s] (N, 1)."""
        columns = sum(len(at) for at in self._places.values()) + 2
        self.privileged = np.zeros((n_envs, columns), np.float32)
        """What was drawn, as numbers around zero (N, Q)."""

    def _expand(self, model: mujoco.MjModel, name: str) -> None:
        nominal = getattr(model, name).copy()
        if nominal.size:
            self._nominal[name], self._fields[name] = nominal, self._physics.expand(name)

    def draw(self, rng: np.random.Generator, ids: np.ndarray) -> None:
        """New parameters for these environments."""
        r, n = self._random, len(ids)
        for setting, factor in self.factors.items():
            width = getattr(r, setting)
            factor[ids] = rng.uniform(1.0 - width, 1.0 + width, (n, factor.shape[1]))
            self._scale(setting, factor[ids], ids)
        self.lag[ids] = rng.uniform(*r.actuator_lag, (n, 1))
        low, high = (round(x / self._timestep) for x in r.actuator_delay)
        self.delay[ids] = self._timestep * rng.integers(low, high, (n, 1), endpoint=True)
        if "actuator_dynprm" in self._fields:
            self._fields["actuator_dynprm"][ids, :, 0] = self.lag[ids]
        if "actuator_delay" in self._fields:
            self._fields["actuator_delay"][ids] = self.delay[ids]
        if self._fields:
            self._physics.set_const(ids)
        drawn = [f[ids] - 1.0 for f in self.factors.values()]
        self.privileged[ids] = np.concatenate(
            [*drawn, 50.0 * self.lag[ids], 50.0 * self.delay[ids]], axis=1
        )

    def _scale(self, setting: str, factor: np.ndarray, ids: np.ndarray) -> None:
        for name in SCALED[setting]:
            if name not in self._fields:
                continue
            nominal, field = self._nominal[name], self._fields[name]
            if setting == "friction":
                # Of the coefficients only those of sliding: one in a shape, two in a pair.
                sliding = 1 if name == "geom_friction" else 2
                field[ids, :, :sliding] = nominal[:, :sliding] * factor[:, :, None]
                continue
            at = self._places[setting]
            # What compensates gravity knows the nominal mass: m f (g / f) = m g.
            by = 1.0 / factor if name == "body_gravcomp" else factor
            field[ids[:, None], at] = nominal[at] * by.reshape(*by.shape, *[1] * (nominal.ndim - 1))


def _places(model: mujoco.MjModel, setting: str) -> np.ndarray:
    """Where the model has what this setting scales: moving bodies, joints with friction, actuators."""
    if setting == "friction":
        return np.zeros(1, int)
    field = getattr(model, SCALED[setting][0])
    here = field.reshape(len(field), -1).any(axis=1)
    if setting == "mass":
        here &= model.body_weldid > 0
    return np.flatnonzero(here)
