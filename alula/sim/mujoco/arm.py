"""Many arms and their objects at once in MuJoCo: the `Simulator` protocol."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

from types import ModuleType

import mujoco
import numpy as np

from alula.errors import AlulaError
from alula.robots.arm import Arm
from alula.robots.target_steps import TargetSteps
from alula.sim.arm_config import ArmSimConfig
from alula.sim.arm_scene import OBJECT, Scene, Start
from alula.sim.mujoco.arm_model import Edit, Joints, build_arm_model
from alula.sim.mujoco.arm_randomize import Randomizer
from alula.sim.mujoco.physics import Physics, ThreadedPhysics
from alula.sim.protocol import Transition

LOST = 1e4
"""A position or velocity beyond this is lost [rad, m, rad/s, m/s]."""


class MujocoArm:
    """N arms, each with its objects, stepped on all cores; bitwise reproducible by seed for any number of threads.

    The order of events in a step: the action becomes the actuators' command, which they get after their delay and
    follow with their lag; the physics steps; reward and failure look at the new true state; a noisy measurement
    enters the observation's delay line.

    An environment whose integration diverges is put to rest at home, terminated with reward 0, counted in `diverged`
    and told in `last_divergence`; with `strict` it ends in an error instead.
    """

    def __init__(
        self,
        robot: Arm,
        task: ModuleType,
        config: ArmSimConfig,
        n_envs: int,
        *,
        auto_reset: bool = True,
        strict: bool = False,
        staggered: bool = False,
        threads: int | None = None,
        edit: Edit | None = None,
    ) -> None:
        """Build scene and threads; `edit` changes the model before it is compiled.

        `staggered` lets the first episodes after a reset have a random part of their time behind them, so that not all
        end at once.

        Raises:
            AlulaError: the robot has no model or home, the model does not compile, or names do not match.
        """
        if n_envs < 1:
            raise AlulaError(f"n_envs is {n_envs}; allowed: >= 1")
        self.robot, self.task, self.config = robot, task, config
        self.auto_reset, self.strict, self._staggered = auto_reset, strict, staggered
        self.diverged, self.last_divergence = 0, ""
        self.model = build_arm_model(robot, task, config, edit)
        self._joints = Joints(self.model, robot, config)
        self._physics = self._make_physics(n_envs, threads)
        self.assistance = 0.0
        self._object = self._find_object() if config.assisting_actions else 0
        self._contacts = [
            (getattr(self.model, name)[:, 0].copy(), self._physics.expand(name)[:, :, 0])
            for name in ("geom_solref", "pair_solref")
            if config.relaxed_contacts > 0.0 and len(getattr(self.model, name))
        ]
        if config.head_start and not hasattr(task, "head_start"):
            raise AlulaError(f"task {task.NAME!r} has no head start; allowed: head_start 0")
        self._randomizer = Randomizer(self._physics, self.model, n_envs, config.randomization)
        self._still = mujoco.MjData(self.model)
        self._tool = self.model.site(robot.tool).id
        self._scale = config.action_size(robot)
        self._target_steps = TargetSteps(robot, config.action, config.control_dt)
        noise = [np.full(e.size, e.noise, np.float32) for e in task.entries(robot)]
        self._noise = np.float32(config.noise) * np.concatenate(noise)
        self._sensors = {
            sensor.name: slice(sensor.adr[0], sensor.adr[0] + sensor.dim[0])
            for sensor in map(self.model.sensor, range(self.model.nsensor))
        }
        self._allocate(n_envs)

    def _make_physics(self, n_envs: int, threads: int | None) -> Physics:
        return ThreadedPhysics(self.model, n_envs, threads)

    def _allocate(self, n: int) -> None:
        config = self.config
        self._index = np.arange(n)
        self._target = np.zeros((n, len(self.robot.joint_names)))
        self._past = np.zeros((n, max(1, config.history), len(self._scale)), np.float32)
        self._steps, self._delay = np.zeros(n, int), np.zeros(n, int)
        ring = config.randomization.observation_delay_steps[1] + 1
        self._measured = np.zeros((n, ring, len(self._noise)), np.float32)
        self._goal: dict[str, np.ndarray] = {}
        self._started = False

    @property
    def n_envs(self) -> int:
        """Number of environments N."""
        return len(self._index)

    @property
    def n_actions(self) -> int:
        """Number of actions A + P."""
        return len(self._scale) + self.config.assisting_actions

    @property
    def n_parameters(self) -> int:
        """Number of last columns of the privileged rows that hold what was drawn for the episode."""
        return self._randomizer.privileged.shape[1] + 1

    def _find_object(self) -> int:
        try:
            return self.model.body(OBJECT).id
        except KeyError:
            raise AlulaError(
                f"task {self.task.NAME!r} has no body {OBJECT!r}; allowed: assisting_force 0"
            ) from None

    @property
    def qpos(self) -> np.ndarray:
        """Generalised positions of the whole model, to draw it (N, nq)."""
        return self._physics.qpos

    @property
    def scene(self) -> Scene:
        """True state now, a copy."""
        return self._scene(self._index)

    def _scene(self, ids: np.ndarray) -> Scene:
        physics, joints = self._physics, self._joints
        data = physics.sensordata[ids]
        return Scene(
            joint_position=physics.qpos[ids][:, joints.qpos],
            joint_velocity=physics.qvel[ids][:, joints.qvel],
            sensor={name: data[:, at] for name, at in self._sensors.items()},
            goal={name: value[ids] for name, value in self._goal.items()},
        )

    def reset(self, seed: int) -> np.ndarray:
        """Start all episodes anew; returns the actor observation [N, O]."""
        if seed < 0:
            raise AlulaError(f"seed is {seed}; allowed: >= 0")
        # Apart, so that an episode that ends changes no other environment's noise.
        self._rng, self._noise_rng = np.random.default_rng(seed).spawn(2)
        self.diverged, self.last_divergence = 0, ""
        self._started = True
        self._begin(self._index)
        if self._staggered:
            self._steps[:] = self._rng.integers(0, self.config.episode_steps, self.n_envs)
        return self._observe(self._index)

    def step(self, action: np.ndarray) -> Transition:
        """Apply actions [N, A + P] in [-1, 1] for one `control_dt`; larger ones are clipped, NaN refused.

        The last P are the assisting ones, where the setting has them.

        Raises:
            AlulaError: step before reset, an action of another shape or not finite, a diverged one where `strict`.
        """
        action = self._assist(np.clip(self.checked(action), -1.0, 1.0))
        self._command(action)
        self._steps += 1
        lost = self._advance()
        scene = self._scene(self._index)
        reward = self.task.reward(scene, action, self._past[:, -1]).astype(np.float32)
        reward[lost] = 0.0
        self._past[:, :-1] = self._past[:, 1:]
        self._past[:, -1] = action
        true = _true(self.task, scene)
        self._measured[:, :-1] = self._measured[:, 1:]
        self._measured[:, -1] = true + self._noise * self._draw_noise(self._noise_rng, self.n_envs)
        terminated = self.task.failed(scene) | lost
        truncated = (self._steps >= self.config.episode_steps) & ~terminated
        final = self._observe(self._index)
        final_privileged = self._privileged(self._index, scene, true)
        observation, privileged = final, final_privileged
        ended = np.flatnonzero(terminated | truncated)
        if self.auto_reset and len(ended):
            observation, privileged = final.copy(), final_privileged.copy()
            scene, true = self._begin(ended)
            observation[ended] = self._observe(ended)
            privileged[ended] = self._privileged(ended, scene, true)
        return Transition(
            observation=observation,
            privileged=privileged,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            final_observation=final,
            final_privileged=final_privileged,
        )

    def checked(self, action: np.ndarray) -> np.ndarray:
        """The same actions in single precision.

        Raises:
            AlulaError: before the first reset; an action of another shape or not finite.
        """
        if not self._started:
            raise AlulaError("step before reset; allowed: reset(seed) first")
        shape = (self.n_envs, self.n_actions)
        if np.shape(action) != shape or not np.isfinite(action).all():
            raise AlulaError(f"action has shape {np.shape(action)}; allowed: {shape}, finite")
        return np.asarray(action, np.float32)

    def _assist(self, action: np.ndarray) -> np.ndarray:
        """Push the object; the actions of the robot [N, A]."""
        own = len(self._scale)
        if self.config.assisting_actions:
            force = self.assistance * self.config.assisting_force * action[:, own:]
            self._physics.xfrc_applied[:, self._object, :3] = force
        return action[:, :own]

    def _relax_contacts(self, ids: np.ndarray) -> None:
        """Contacts of new episodes, as far as the assistance goes now."""
        longer = 1.0 + self.config.relaxed_contacts * self.assistance
        for time_constant, field in self._contacts:
            # A negative one is a stiffness.
            field[ids] = np.where(time_constant > 0.0, longer, 1.0) * time_constant
        if self._contacts:
            self._physics.set_const(ids)

    def _command(self, action: np.ndarray) -> None:
        """Actions to the actuators' controls."""
        asked = self._scale * action
        if self.config.action == "joint_torque":
            self._physics.ctrl[:, self._joints.ctrl] = asked
            return
        position = self._physics.qpos[:, self._joints.qpos]
        self._target = self._target_steps.moved(self._target, asked, position)
        self._physics.ctrl[:, self._joints.ctrl] = self._joints.control(self._target)

    def _advance(self) -> np.ndarray:
        """Physics for one policy step; which environments were lost [N], brought back to rest at home."""
        physics, lost = self._physics, np.zeros(self.n_envs, bool)
        lost[physics.step(self.config.substeps)] = True
        for state in (physics.qpos, physics.qvel):
            # A comparison with NaN is false.
            if not np.abs(state).max() < LOST:
                lost |= ~(np.abs(state).max(axis=1) < LOST)
        ids = np.flatnonzero(lost)
        if len(ids):
            time = self._steps[ids[-1]] * self.config.control_dt
            self.diverged += len(ids)
            self.last_divergence = f"environment {ids[-1]} at {time:.2f} s"
            if self.strict:
                raise AlulaError(
                    f"the simulation of {self.robot.name!r} diverged: {self.last_divergence}; "
                    "allowed: smaller physics steps, or other actions"
                )
            self._place(ids, np.tile(self.robot.home, (len(ids), 1)), {})
        return lost

    def _place(
        self, ids: np.ndarray, joint_position: np.ndarray, pose_w: dict[str, np.ndarray]
    ) -> None:
        """Arms at rest at joint positions (n, J), where they have been sent for long; free bodies at poses (n, 7)."""
        physics, joints = self._physics, self._joints
        physics.reset(ids)
        physics.qpos[ids[:, None], joints.qpos] = joint_position
        for m in joints.mimics:
            physics.qpos[ids, m.qpos] = m.offset + m.slope * joint_position[:, m.joint]
        for name, pose in pose_w.items():
            at = self.model.jnt_qposadr[self.model.body(name).jntadr[0]]
            physics.qpos[ids, at : at + 7] = pose
        self._target[ids] = joint_position
        torque = self.config.action == "joint_torque"
        control = 0.0 * joint_position if torque else self._joints.control(joint_position)
        physics.ctrl[ids[:, None], joints.ctrl] = control
        physics.act[ids[:, None], joints.act] = control[:, joints.act_joint]
        physics.history[ids[:, None], joints.history] = control[:, joints.history_joint]
        physics.forward(ids)

    def _begin(self, ids: np.ndarray) -> tuple[Scene, np.ndarray]:
        """New episodes in these environments; what `_scene` and `_true` say of them."""
        rng, n = self._rng, len(ids)
        self._relax_contacts(ids)
        self._randomizer.draw(rng, ids)
        start = self._draw_start(rng, n)
        self._place(ids, start.joint_position, start.pose_w)
        for name, value in start.goal.items():
            self._goal.setdefault(name, np.zeros((self.n_envs, value.shape[1])))[ids] = value
        self._past[ids], self._steps[ids] = 0.0, 0
        low, high = self.config.randomization.observation_delay_steps
        self._delay[ids] = rng.integers(low, high, n, endpoint=True)
        scene = self._scene(ids)
        true = _true(self.task, scene)
        self._measured[ids] = (true + self._noise * self._draw_noise(rng, n))[:, None]
        return scene, true

    def _draw_start(self, rng: np.random.Generator, n: int) -> Start:
        """The task's starts, a share of them with part of the task done."""
        start = self.task.start(rng, n, self.robot, self._tool_pose)
        share = self.config.head_start
        ahead = np.flatnonzero(rng.random(n) < share) if share > 0.0 else []
        if len(ahead):
            begun = self.task.head_start(rng, len(ahead), self.robot, self._tool_pose)
            start.joint_position[ahead] = begun.joint_position
            for values, others in ((start.goal, begun.goal), (start.pose_w, begun.pose_w)):
                for name, value in others.items():
                    values[name][ahead] = value
        return start

    def _tool_pose(self, joint_position: np.ndarray) -> np.ndarray:
        """Position [m] and quaternion of the tool in the world (n, 7) at joint positions [rad or m] (n, J)."""
        data, pose = self._still, np.empty((len(joint_position), 7))
        for row, q in zip(pose, joint_position, strict=True):
            data.qpos[self._joints.qpos] = q
            mujoco.mj_kinematics(self.model, data)
            row[:3] = data.site_xpos[self._tool]
            mujoco.mju_mat2Quat(row[3:], data.site_xmat[self._tool])
        return pose

    def _draw_noise(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.standard_normal((n, len(self._noise)), np.float32)

    def _observe(self, ids: np.ndarray) -> np.ndarray:
        newest = self._measured.shape[1] - 1
        sample = self._measured[ids, newest - self._delay[ids]]
        if not self.config.history:
            return sample
        return np.concatenate([sample, self._past[ids].reshape(len(ids), -1)], axis=1)

    def _privileged(self, ids: np.ndarray, scene: Scene, true: np.ndarray) -> np.ndarray:
        time_left = 1.0 - self._steps[ids, None] / self.config.episode_steps
        lag = self._target[ids] - scene.joint_position
        assistance = np.full((len(ids), 1 if self.config.assisting_actions else 0), self.assistance)
        return np.concatenate(
            [true, self.task.privileged(scene), lag, self._past[ids, -1], time_left, assistance,
             self._delay[ids, None], self._randomizer.privileged[ids]],
            axis=1, dtype=np.float32,
        )  # fmt: skip


def _true(task: ModuleType, scene: Scene) -> np.ndarray:
    """What the actor would see without noise and delay [n, O]."""
    return np.concatenate(task.observe(scene), axis=1)
