"""One horizon of the short-horizon learner, written again in float64 torch, sharing only the scalar functions.

It flies the same flights as the compiled kernels from the same arrays (without noise and gusts), so that torch's
automatic differentiation gives the gradients that the kernels must give.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path
from types import ModuleType

import numpy as np
import torch

from alula.robots.multirotor import Multirotor
from alula.sim.multirotor.equations import Disturbance, Geometry, Params, State, rk4_step
from alula.sim.sensors import Sensed, sense
from alula.training.short_horizon import ShortHorizonLearner

helper = run_path(str(Path(__file__).parents[1] / "sim" / "torch_scalar.py"))
scalars, tensor = helper["scalars"], helper["tensor"]


@dataclass
class Horizon:
    """What one horizon gives."""

    cost: torch.Tensor
    """Cost of every step [T, N]."""
    value: torch.Tensor
    """Critic's value times 1 - gamma at every step [T + 1, N]."""
    inside: torch.Tensor
    """Whether a flight stayed within twice its limits [T, N]."""
    actor: torch.Tensor
    critic: torch.Tensor


def rows(array: np.ndarray) -> torch.Tensor:
    """[blocks, rows, 16] -> [rows, N] in float64."""
    flat = array.transpose(1, 0, 2).reshape(array.shape[1], array.shape[0] * array.shape[2])
    return torch.tensor(flat.astype(np.float64))


def network(
    flat: torch.Tensor, sizes: tuple[int, ...], x: torch.Tensor, squashed: bool
) -> torch.Tensor:
    """Output [outputs, N] of the dense network in `flat` for inputs [inputs, N]; squashed or ReLU layers."""
    at = 0
    for i, (n, m) in enumerate(itertools.pairwise(sizes)):
        w = flat[at : at + n * m].reshape(n, m)
        b = flat[at + n * m : at + n * m + m]
        at += n * m + m
        x = w.T @ x + b[:, None]
        if i < len(sizes) - 2:
            x = x / torch.sqrt(1.0 + x * x) if squashed else torch.relu(x)
    assert at == len(flat)
    return x


def fly(learner: ShortHorizonLearner, robot: Multirotor, task: ModuleType, steps: int) -> Horizon:
    """Fly `steps` steps from the learner's present arrays, which stay as they are."""
    batch, c = learner.batch, learner.batch.first_tape
    a = {name: array.copy() for name, array in batch.arrays.items()}
    s, r = batch.struct, robot.n_rotors
    limits = [2.0 * x for x in (s.limit_position, s.limit_velocity, s.limit_rate)]
    actor = torch.tensor(learner.actor.astype(np.float64), requires_grad=True)
    critic = torch.tensor(learner.critic.astype(np.float64), requires_grad=True)
    critic_sizes = (
        learner._arrays["features"].shape[2], *learner.config.critic_hidden, 1,
    )  # fmt: skip
    uniform = [float(x) for x in batch.shared["uniform"]]
    geometry = Geometry(rotor_x=uniform[:r], rotor_y=uniform[r : 2 * r], spin=robot.rotor_spin)
    p = Params.from_rows(scalars(rows(a["params"])))
    disturbance = Disturbance.from_rows(scalars(rows(a["constant"])))
    trajectory, clock = scalars(rows(a["trajectory"])), rows(a["clock"])[0]
    act_delay, obs_delay = rows(a["action_delay"]), rows(a["observation_delay"])
    delays = scalars([sum(d * hot[d] for d in range(4)) for hot in (act_delay, obs_delay)])
    tape = rows(a["actions"]).reshape(s.tape_length, r, -1)
    actions = list(tape[:c])
    ring = rows(a["sensed"]).reshape(4, 18, -1)
    sensed = {c - d: ring[(c - d) % 4] for d in range(4)}
    weights = [float(x) for x in batch.shared["weights"]]
    scale = torch.tensor(task.SCALE, dtype=torch.float64)[:, None]
    clip = learner._struct.clip
    x = rows(a["state"])
    costs, values, kept = [], [], []

    def reference(t: int) -> list:
        return task.reference(scalars([float(s.control_dt) * (clock + t)])[0], trajectory)

    def look(t: int) -> torch.Tensor:
        late = sum(obs_delay[d] * sensed[c + t - d] for d in range(4))
        seen = task.observe(
            Sensed.from_rows(scalars(late)), task.Reference.from_rows(scalars(tensor(reference(t))))
        )
        own = torch.clamp(scale * tensor(seen), -clip, clip)
        return torch.cat([own, *actions[c + t - s.history : c + t]])

    def evaluate(t: int, x: torch.Tensor) -> torch.Tensor:
        if learner.config.privileged:
            features = tensor(
                task.privileged(
                    State.from_rows(scalars(x)), p, disturbance, delays,
                    task.Reference.from_rows(reference(t)),
                )
            )  # fmt: skip
        else:
            features = look(t)
        return network(critic, critic_sizes, torch.clamp(features, -clip, clip), True)[0]

    for t in range(steps):
        values.append(evaluate(t, x))
        z = network(actor, learner.sizes, look(t), False)
        actions.append(z / torch.sqrt(1.0 + z * z))
        delayed = sum(act_delay[d] * actions[c + t - d] for d in range(4))
        throttle = s.throttle_min + 0.5 * (delayed + 1.0) * (s.throttle_max - s.throttle_min)
        for _ in range(s.substeps):
            following = rk4_step(
                State.from_rows(scalars(x)),
                scalars(throttle),
                p,
                disturbance,
                geometry,
                uniform[-1],
            )
            x = tensor(following.rows())
        target = tensor(reference(t + 1))
        off = [(x[:3] - target[:3]), x[3:6], x[10:13]]
        inside = torch.stack(
            [(e.abs() < bound).all(0) for e, bound in zip(off, limits, strict=True)]
        ).all(0)
        rest = torch.zeros_like(x)
        rest[:6], rest[6], rest[13:] = target[:6].detach(), 1.0, s.hover_fraction
        x = torch.where(inside, x, rest)
        kept.append(inside)
        sensed[c + t + 1] = tensor(sense(State.from_rows(scalars(x))))
        costs.append(
            task.cost(
                State.from_rows(scalars(x)), scalars(actions[c + t]), scalars(actions[c + t - 1]),
                task.Reference.from_rows(scalars(target)), weights,
            ).value
        )  # fmt: skip
    values.append(evaluate(steps, x))
    return Horizon(torch.stack(costs), torch.stack(values), torch.stack(kept), actor, critic)


def lambda_returns(h: Horizon, gamma: float, mixing: float, failure: float) -> torch.Tensor:
    """Targets times 1 - gamma [T, N], by the recursion of Sutton and Barto, section 12.1."""
    following, out = h.value[-1].detach(), []
    for t in reversed(range(len(h.cost))):
        v = h.value[t + 1].detach()
        beyond = torch.where(h.inside[t], (1.0 - mixing) * v + mixing * following, failure)
        following = (1.0 - gamma) * h.cost[t].detach() + gamma * beyond
        out.insert(0, following)
    return torch.stack(out)
