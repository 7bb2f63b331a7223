"""Many arms and their objects at once in MuJoCo: the `Simulator` protocol over `mujoco.batch`."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import os
from types import ModuleType

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from alula.errors import AlulaError
from alula.robots.arm import LEASH, Arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.arm_scene import Scene, Start
from alula.sim.mujoco.arm_model import Edit, Randomizer, build_arm_model
from alula.sim.protocol import Transition

TO_VELOCITY = int(mujoco.mjtStage.mjSTAGE_VEL)
"""After the steps positions, velocities and their sensors are made current, which the next step then need not do."""
LOST = 1e4
"""A joint position or velocity beyond this is lost [rad, m, rad/s, m/s]."""


class MujocoArm:
    """N arms, each with its objects, stepped on all cores; bitwise reproducible by seed for any number of threads.

    An environment whose integration diverges is terminated, counted in `diverged`, and starts anew.
    """

    def __init__(
        self,
        robot: Arm,
        task: ModuleType,
        config: ArmSimConfig,
        n_envs: int,
        *,
        auto_reset: bool = True,
        threads: int | None = None,
        edit: Edit | None = None,
    ) -> None:
        """Build scene and threads; `edit` changes the model before it is compiled.

        Raises:
            AlulaError: the robot has no model or home, the model does not compile, or names do not match.
        """
        if n_envs < 1:
            raise AlulaError(f"n_envs is {n_envs}; allowed: >= 1")
        self.robot, self.task, self.config = robot, task, config
        self.auto_reset, self.diverged = auto_reset, 0
        self.model = model = build_arm_model(robot, task, config, edit)
        threads = min(threads or len(os.sched_getaffinity(0)), n_envs)
        self._still = mujoco.MjData(model)
        self._batch = batch = Batch(model, n_envs, threads, persistent=True)
        self._qpos, self._qvel, self._ctrl = (batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self._sensor = {model.sensor(i).name: batch.sensor(i).data for i in range(model.nsensor)}
        self._randomizer = Randomizer(batch, config.randomization, model.opt.timestep)
        joints = [model.joint(name).id for name in robot.joint_names]
        self._at, self._dof = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
        self._low, self._high = np.array(robot.position_low), np.array(robot.position_high)
        n, actions = n_envs, len(joints)
        entries = task.entries(robot)
        self._scale = config.action_size(robot)
        self._noise = config.noise * np.concatenate([np.full(e.size, e.noise) for e in entries])
        self._target = np.zeros((n, actions))
        self._past = np.zeros((n, max(1, config.history), actions), np.float32)
        self._steps, self._delay = np.zeros(n, int), np.zeros(n, int)
        ring = config.randomization.observation_delay_steps[1] + 1
        self._measured = np.zeros((n, ring, len(self._noise)), np.float32)
        self._goal: dict[str, np.ndarray] = {}
        self._rng = np.random.default_rng(0)

    @property
    def n_envs(self) -> int:
        """Number of environments N."""
        return self._batch.nsim

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        return self._target.shape[1]

    @property
    def qpos(self) -> np.ndarray:
        """Generalised positions of the whole model, to draw it (N, nq)."""
        return self._qpos

    @property
    def scene(self) -> Scene:
        """True state now."""
        return Scene(
            joint_position=self._qpos[:, self._at],
            joint_velocity=self._qvel[:, self._dof],
            sensor=self._sensor,
            goal=self._goal,
        )

    def reset(self, seed: int) -> np.ndarray:
        """Start all episodes anew; returns the actor observation [N, O]."""
        if seed < 0:
            raise AlulaError(f"seed is {seed}; allowed: >= 0")
        self._rng = np.random.default_rng(seed)
        self.diverged = 0
        self._begin(np.arange(self.n_envs))
        return self._observe()

    def step(self, action: np.ndarray) -> Transition:
        """Apply actions [N, A] in [-1, 1] for one `control_dt`; larger ones are clipped, NaN refused."""
        if action.shape != self._target.shape or not np.isfinite(action).all():
            raise AlulaError(
                f"action has shape {action.shape}; allowed: {self._target.shape}, finite"
            )
        action = np.clip(action, -1.0, 1.0).astype(np.float32)
        self._command(action)
        lost = self._advance()
        self._steps += 1
        scene, previous = self.scene, self._past[:, -1]
        reward = self.task.reward(scene, action, previous).astype(np.float32)
        reward[lost] = 0.0
        if self.config.history:
            self._past[:, :-1] = self._past[:, 1:]
        self._past[:, -1] = action
        self._measure()
        terminated = self.task.failed(scene) | lost
        truncated = (self._steps >= self.config.episode_steps) & ~terminated
        final, final_privileged = self._observe(), self._privileged(scene)
        observation, privileged = final, final_privileged
        ended = np.flatnonzero(terminated | truncated)
        if self.auto_reset and len(ended):
            self._begin(ended)
            observation, privileged = self._observe(), self._privileged(self.scene)
        return Transition(
            observation=observation,
            privileged=privileged,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            final_observation=final,
            final_privileged=final_privileged,
        )

    def _command(self, action: np.ndarray) -> None:
        """Actions to the actuators' controls."""
        if self.config.action == "joint_torque":
            self._ctrl[:] = self._scale * action
            return
        # The target moves, not the measured position: a zero action holds where it was sent.
        q = self._qpos[:, self._at]
        target = np.clip(self._target + self._scale * action, q - LEASH, q + LEASH)
        self._target = np.clip(target, self._low, self._high)
        self._ctrl[:] = self._target

    def _advance(self) -> np.ndarray:
        """Physics for one policy step; which environments were lost [N], brought back to rest at home."""
        lost = np.zeros(self.n_envs, bool)
        try:
            self._batch.step(nstep=self.config.substeps, stage=TO_VELOCITY)
        except SimulationError as e:
            lost[e.ids] = True
        # A comparison with NaN is false.
        fine = (np.abs(self._qpos) < LOST).all(1) & (np.abs(self._qvel) < LOST).all(1)
        lost |= ~fine
        if lost.any():
            self.diverged += int(lost.sum())
            ids = np.flatnonzero(lost)
            self._batch.reset(ids)
            self._qpos[ids[:, None], self._at] = self.robot.home
            self._batch.forward(ids)
        return lost

    def _begin(self, ids: np.ndarray) -> None:
        """New episodes in these environments."""
        rng, n = self._rng, len(ids)
        self._randomizer.draw(rng, ids)
        start: Start = self.task.start(rng, n, self.robot, self._tool_pose)
        self._batch.reset(ids, stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        self._qpos[ids[:, None], self._at] = start.joint_position
        for name, pose in start.pose_w.items():
            at = self.model.jnt_qposadr[self.model.body(name).jntadr[0]]
            self._qpos[ids, at : at + 7] = pose
        for name, value in start.goal.items():
            self._goal.setdefault(name, np.zeros((self.n_envs, value.shape[1])))[ids] = value
        self._target[ids] = start.joint_position
        torque = self.config.action == "joint_torque"
        self._ctrl[ids] = 0.0 if torque else start.joint_position
        if self.model.na:
            self._batch.bind("act")[ids] = self._ctrl[ids]
        self._batch.forward(ids)
        self._past[ids], self._steps[ids] = 0.0, 0
        low, high = self.config.randomization.observation_delay_steps
        self._delay[ids] = rng.integers(low, high, n, endpoint=True)
        self._measured[ids] = self._noisy()[ids][:, None]

    def _tool_pose(self, joint_position: np.ndarray) -> np.ndarray:
        """Position [m] and quaternion of the tool in the world (n, 7) at joint positions [rad or m] (n, J)."""
        data, site, pose = (
            self._still,
            self.model.site(self.robot.tool).id,
            np.empty((len(joint_position), 7)),
        )
        for row, q in zip(pose, joint_position, strict=True):
            data.qpos[self._at] = q
            mujoco.mj_kinematics(self.model, data)
            row[:3] = data.site_xpos[site]
            mujoco.mju_mat2Quat(row[3:], data.site_xmat[site])
        return pose

    def _noisy(self) -> np.ndarray:
        true = np.concatenate(self.task.observe(self.scene), axis=1)
        return true + self._noise * self._rng.standard_normal(true.shape)

    def _measure(self) -> None:
        self._measured[:, :-1] = self._measured[:, 1:]
        self._measured[:, -1] = self._noisy()

    def _observe(self) -> np.ndarray:
        newest = self._measured.shape[1] - 1
        sample = self._measured[np.arange(self.n_envs), newest - self._delay]
        past = self._past.reshape(self.n_envs, -1) if self.config.history else sample[:, :0]
        return np.concatenate([sample, past], axis=1, dtype=np.float32)

    def _privileged(self, scene: Scene) -> np.ndarray:
        past = self._past[:, -1]
        time_left = 1.0 - self._steps[:, None] / self.config.episode_steps
        return np.concatenate(
            [self.task.privileged(scene), self._target - scene.joint_position, past, time_left, self._randomizer.privileged()],
            axis=1, dtype=np.float32,
        )  # fmt: skip
