"""Simulated arms on MuJoCo Warp: thousands of episodes on a GPU, in tensors; on a CPU slow, for tests.

Float32 in place of float64, and MuJoCo's constraints solved by other code: a step agrees with C MuJoCo's within the
tolerances of tests/sim/mujoco/test_arm_warp.py, and not bitwise.
"""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from types import ModuleType
from typing import Any

import numpy as np

from alula.errors import AlulaError
from alula.robots.arm import Arm
from alula.robots.target_steps import TargetSteps
from alula.sim.arm_config import ArmSimConfig
from alula.sim.arm_scene import Scene
from alula.sim.mujoco.arm import LOST, MujocoArm
from alula.sim.mujoco.arm_model import Edit
from alula.sim.mujoco.physics import Physics, ThreadedPhysics
from alula.sim.protocol import Transition

try:
    import torch
    from torch import Tensor

    from alula.sim.mujoco.warp_physics import WarpPhysics
    from alula.sim.multirotor.cuda import DeviceTransition, find_gpu
except ImportError:
    raise AlulaError(
        "mujoco-warp is not installed; allowed: after pip install 'alula[warp]'"
    ) from None

DRAW_ANEW = 4
"""Episodes of full length after which all starts are drawn anew."""
STATE = ("qpos", "act", "history", "ctrl", "sensordata")
"""What the physics has of the start of an episode, beside what is zero there."""
DERIVED = (
    "body_subtreemass", "body_invweight0", "dof_invweight0", "tendon_invweight0", "actuator_acc0",
)  # fmt: skip
"""Fields of the model that MuJoCo derives from masses and inertias, and Warp reads."""


class WarpArm(MujocoArm):
    """As `MujocoArm`, with tensors on a device in place of arrays; nothing crosses the bus in a step.

    Episodes are drawn on the host, N at a time, as `MujocoArm` draws them: after a reset they are its very episodes. From
    then on each new one begins as one of the N did, chosen at random, with other noise; every DRAW_ANEW time limits
    N others are drawn. What a step hands out may be overwritten by the next.

    An action that is not finite cannot be refused without waiting for the device: it ends that episode as failed. So
    does an environment whose integration diverges or whose contacts find no room; `diverged` counts them.
    """

    def __init__(
        self,
        robot: Arm,
        task: ModuleType,
        config: ArmSimConfig,
        n_envs: int,
        *,
        auto_reset: bool = True,
        staggered: bool = False,
        threads: int | None = None,
        edit: Edit | None = None,
        device: str = "cuda",
    ) -> None:
        """As `MujocoArm`; `device` is the GPU as torch calls it, or cpu.

        Raises:
            AlulaError: as `MujocoArm`; no such GPU; a model that Warp does not know.
        """
        self.device = torch.device("cpu") if device == "cpu" else find_gpu(device)
        super().__init__(
            robot, task, config, n_envs, auto_reset=auto_reset, staggered=staggered, threads=threads, edit=edit
        )  # fmt: skip
        self._target_steps = TargetSteps(robot, config.action, config.control_dt, self._tensor)
        joints = self._joints
        self._qpos_at, self._qvel_at, self._ctrl_at = (
            torch.as_tensor(at, dtype=torch.long, device=self.device)
            for at in (joints.qpos, joints.qvel, joints.ctrl)
        )
        self._slope, self._offset = self._tensor(joints.scale), self._tensor(joints.offset)
        self._size, self._spread = self._tensor(self._scale), self._tensor(self._noise)
        # Apart, so that an episode that ends changes no noise.
        self._to_begin, self._to_measure = (torch.Generator(self.device) for _ in range(2))
        if self._host.expanded():
            for name in DERIVED:
                self._host.expand(name)
        self._worlds = WarpPhysics(
            self.model, self._host.expanded(), n_envs, config.substeps, self.device
        )
        self._time_constants = {
            name: self._tensor(getattr(self.model, name)[:, 0])
            for name in ("geom_solref", "pair_solref")
            if name in self._worlds.fields and config.relaxed_contacts > 0.0
        }
        self._place(np.arange(n_envs), np.tile(robot.home, (n_envs, 1)), {})
        self._home = {name: self._tensor(x) for name, x in self._drawn_states().items()}
        """At rest at home."""

    def _make_physics(self, n_envs: int, threads: int | None) -> Physics:
        self._host = ThreadedPhysics(self.model, n_envs, threads)
        return self._host

    def _tensor(self, x: Any) -> Tensor:
        return torch.as_tensor(np.array(x), dtype=torch.float32, device=self.device)

    @property
    def diverged(self) -> int:
        """Episodes that were lost since the last reset; waits for the device."""
        return int(self._n_lost)

    @diverged.setter
    def diverged(self, count: int) -> None:
        self._n_lost = torch.full((), count, device=self.device)

    @property
    def qpos(self) -> Tensor:
        """Generalised positions of the whole model, to draw it (N, nq)."""
        return self._worlds.qpos

    @property
    def scene(self) -> Scene:
        """True state now, in tensors."""
        worlds, sensed = self._worlds, self._episode["sensordata"]
        # As arrays to the type checker: tasks take both.
        parts: dict[str, Any] = {
            "joint_position": worlds.qpos[:, self._qpos_at],
            "joint_velocity": worlds.qvel[:, self._qvel_at],
            "sensor": {name: sensed[:, at] for name, at in self._sensors.items()},
            "goal": {name: self._episode[f"goal {name}"] for name in self._goal},
        }
        return Scene(**parts)

    def _relax_contacts(self, ids: np.ndarray) -> None:
        """Nothing on the host: episodes are relaxed when they begin, `_begin_where`."""

    def _drawn_states(self) -> dict[str, np.ndarray]:
        """States as they stand on the host, by the names of `_episode`."""
        return {name: getattr(self._host, name) for name in STATE} | {"target": self._target}

    def _draw(self) -> None:
        """Take the episodes that were drawn on the host to the device."""
        own = self._host.expanded()
        drawn = self._drawn_states() | {name: own[name] for name in self._worlds.fields}
        drawn |= {f"goal {name}": value for name, value in self._goal.items()}
        drawn["delay"] = self._delay
        drawn["parameters"] = np.concatenate(
            [self._delay[:, None], self._randomizer.privileged], axis=1
        )
        self._bank = {name: self._tensor(x) for name, x in drawn.items()}
        self._until_drawn = DRAW_ANEW * self.config.episode_steps

    def reset(self, seed: int) -> Any:
        """Start all episodes anew; returns the actor observation [N, O]."""
        super().reset(seed)
        first, second = np.random.SeedSequence(seed).generate_state(2)
        self._to_begin.manual_seed(int(first))
        self._to_measure.manual_seed(int(second))
        self._draw()
        worlds, n = self._worlds, self.n_envs
        shared = {name: getattr(worlds, name) for name in STATE} | worlds.fields
        self._episode = {
            name: shared[name] if name in shared else torch.empty_like(x)
            for name, x in self._bank.items()
        }
        """What an episode begins with, as it stands now; the physics' own memory where it is the physics'."""
        past = (n, max(1, self.config.history), len(self._scale))
        self._past_actions = torch.zeros(past, device=self.device)
        self._done = torch.zeros(n, dtype=torch.long, device=self.device)
        self._seen = self._tensor(self._measured)
        everyone = torch.ones(n, dtype=torch.bool, device=self.device)
        self._begin_where(everyone, torch.arange(n, device=self.device))
        self._done += torch.as_tensor(self._steps, device=self.device)
        return self._observed()

    def step(self, action: Any) -> Any:
        """Apply actions [N, A + P] in [-1, 1] for one `control_dt`; larger ones are clipped. As `Simulator.step`, in tensors.

        Raises:
            AlulaError: step before reset; actions of another shape or type, or on another device.
        """
        self._check_tensor(action)
        if self._until_drawn == 0:
            self._begin(self._index)
            self._draw()
        self._until_drawn -= 1
        broken = ~torch.isfinite(action).all(1)
        action = torch.where(broken[:, None], 0.0, action).clamp(-1.0, 1.0)
        own = self._pushed(action)
        self._commanded(own)
        self._done += 1
        lost = self._advanced() | broken
        scene = self.scene
        reward: Any = self.task.reward(scene, own, self._past_actions[:, -1])
        self._past_actions = torch.cat([self._past_actions[:, 1:], own[:, None]], 1)
        true = self._true(scene)
        self._seen = torch.cat(
            [self._seen[:, 1:], self._measure(true, self._to_measure)[:, None]], 1
        )
        failed: Any = self.task.failed(scene)
        terminated = failed | lost
        truncated = (self._done >= self.config.episode_steps) & ~terminated
        final, final_privileged = self._observed(), self._critics_rows(scene, true)
        observation, privileged = final, final_privileged
        if self.auto_reset:
            ended = terminated | truncated
            chosen = torch.randint(self.n_envs, (self.n_envs,), generator=self._to_begin, device=self.device)  # fmt: skip
            self._begin_where(ended, chosen)
            scene = self.scene
            true = self._true(scene)
            first = self._measure(true, self._to_begin)[:, None].expand_as(self._seen)
            self._seen = torch.where(ended[:, None, None], first, self._seen)
            observation, privileged = self._observed(), self._critics_rows(scene, true)
        return DeviceTransition(
            observation=observation,
            privileged=privileged,
            reward=torch.where(lost, 0.0, reward).float(),
            terminated=terminated,
            truncated=truncated,
            final_observation=final,
            final_privileged=final_privileged,
        )

    def _check_tensor(self, action: Any) -> None:
        if not self._started:
            raise AlulaError("step before reset; allowed: reset(seed) first")
        shape = (self.n_envs, self.n_actions)
        is_one = isinstance(action, Tensor) and action.dtype == torch.float32
        if not is_one or action.shape != shape or action.device != self.device:
            found = tuple(action.shape) if isinstance(action, Tensor) else type(action).__name__
            raise AlulaError(
                f"action is {found}; allowed: a tensor {shape}, torch.float32, on {self.device}"
            )

    def _pushed(self, action: Tensor) -> Tensor:
        """Push the object; the actions of the robot [N, A]."""
        own = len(self._scale)
        if self.config.assisting_actions:
            force = self.assistance * self.config.assisting_force * action[:, own:]
            self._worlds.xfrc_applied[:, self._object, :3] = force
        return action[:, :own]

    def _commanded(self, action: Tensor) -> None:
        """Actions to the actuators' controls."""
        asked, target = self._size * action, self._episode["target"]
        if self.config.action != "joint_torque":
            position: Any = self._worlds.qpos[:, self._qpos_at]
            moved: Any = self._target_steps.moved(target, asked, position)  # type: ignore[arg-type]
            target.copy_(moved)
            asked = self._offset + self._slope * target
        self._worlds.ctrl.index_copy_(1, self._ctrl_at, asked)

    def _advanced(self) -> Tensor:
        """Physics for one policy step; which environments were lost [N], brought back to rest at home."""
        worlds = self._worlds
        worlds.step()
        lost = worlds.overflow != 0
        for state in (worlds.qpos, worlds.qvel):
            # A comparison with NaN is false.
            lost |= ~(state.abs().amax(1) < LOST)
        self._n_lost += lost.sum()
        self._overwrite(lost, self._home)
        return lost

    def _overwrite(self, where: Tensor, rows: dict[str, Tensor]) -> None:
        """Put rows [N, ...] into what stands in `_episode`, in these environments; all that is not said is zero."""
        for name, row in rows.items():
            live = self._episode[name]
            torch.where(where.view(-1, *[1] * (live.ndim - 1)), row, live, out=live)
        for zero in self._worlds.zero_at_start:
            zero.masked_fill_(where.view(-1, *[1] * (zero.ndim - 1)), 0)

    def _begin_where(self, where: Tensor, chosen: Tensor) -> None:
        """Begin the chosen ones of the drawn episodes [N] in these environments."""
        self._overwrite(where, {name: x[chosen] for name, x in self._bank.items()})
        longer = 1.0 + self.config.relaxed_contacts * self.assistance
        for name, time_constant in self._time_constants.items():
            # A negative one is a stiffness.
            relaxed = where[:, None] & (time_constant > 0.0)
            self._episode[name][:, :, 0] *= torch.where(relaxed, longer, 1.0)
        self._done.masked_fill_(where, 0)
        self._past_actions.masked_fill_(where[:, None, None], 0.0)

    def _true(self, scene: Scene) -> Tensor:
        """What the actor would see without noise and delay [N, O]."""
        rows: Any = self.task.observe(scene)
        return torch.cat(rows, 1)

    def _measure(self, true: Tensor, random: torch.Generator) -> Tensor:
        noise = torch.randn(true.shape, generator=random, device=self.device)
        return true + self._spread * noise

    def _observed(self) -> Tensor:
        newest = self._seen.shape[1] - 1
        at = newest - self._episode["delay"].long()
        sample = torch.take_along_dim(self._seen, at[:, None, None], 1)[:, 0]
        if not self.config.history:
            return sample
        return torch.cat([sample, self._past_actions.flatten(1)], 1)

    def _critics_rows(self, scene: Scene, true: Tensor) -> Tensor:
        """As `MujocoArm._privileged`, of all environments."""
        more: Any = self.task.privileged(scene)
        position: Any = scene.joint_position
        time_left = 1.0 - self._done[:, None] / self.config.episode_steps
        n_assisting = 1 if self.config.assisting_actions else 0
        assistance = torch.full((self.n_envs, n_assisting), self.assistance, device=self.device)
        return torch.cat(
            [true, more, self._episode["target"] - position, self._past_actions[:, -1], time_left, assistance,
             self._episode["parameters"]], 1,
        )  # fmt: skip


def best_device() -> str:
    """The first GPU where there is one, else the processor."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class HostedArm:
    """A `WarpArm` that takes and hands out arrays, for checks and evaluations."""

    def __init__(self, arm: WarpArm) -> None:
        self._arm = arm
        self.task, self.model = arm.task, arm.model

    @property
    def n_envs(self) -> int:
        """Number of environments N."""
        return self._arm.n_envs

    @property
    def qpos(self) -> np.ndarray:
        """As of `MujocoArm`."""
        return _array(self._arm.qpos)

    @property
    def scene(self) -> Scene:
        """As of `MujocoArm`."""
        now: Any = self._arm.scene
        return Scene(
            joint_position=_array(now.joint_position),
            joint_velocity=_array(now.joint_velocity),
            sensor={name: _array(x) for name, x in now.sensor.items()},
            goal={name: _array(x) for name, x in now.goal.items()},
        )

    def reset(self, seed: int) -> np.ndarray:
        """As of `MujocoArm`."""
        return _array(self._arm.reset(seed))

    def step(self, action: np.ndarray) -> Transition:
        """As of `MujocoArm`."""
        moved = vars(
            self._arm.step(torch.tensor(self._arm.checked(action), device=self._arm.device))
        )
        return Transition(**{name: _array(x) for name, x in moved.items()})


def _array(x: Tensor) -> np.ndarray:
    return x.cpu().numpy().copy()
