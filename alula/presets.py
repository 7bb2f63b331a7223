"""The one table of named experiments: plain frozen values, nothing is built here."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from alula.errors import AlulaError
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.config import Disturbances, Randomization, SimConfig, Start
from alula.training.config import PpoConfig, SacConfig, ShortHorizonConfig

TaskName = Literal["hover", "track", "reach", "lift", "push", "insert", "pivot_lift"]

BaseName = Literal["none", "insert"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A robot, a task, a flight setting and a learner."""

    name: str
    """Name on the command line."""
    about: str
    """What it is for, in one line."""
    robot: str
    """Robot name or file."""
    task: TaskName
    """Task."""
    sim: SimConfig | ArmSimConfig = field(default_factory=SimConfig)
    """Setting of the episodes; its kind is that of the robot: a vehicle or an arm."""
    base: BaseName = "none"
    """Scripted controller that a learner in torch corrects: cloned into a network, then frozen."""
    algo: ShortHorizonConfig | PpoConfig | SacConfig = field(default_factory=ShortHorizonConfig)
    """Learner."""


RANDOMIZED = Randomization(mass=0.2, inertia=0.2, thrust=0.25, lag=0.4, action_delay_steps=(0, 2))
"""The spread between published numbers of one and the same vehicle, and a little more."""

ARM_RANDOMIZED = ArmRandomization(
    mass=0.1, friction=0.3, damping=0.2, armature=0.2, frictionloss=0.5, gain=0.1,
    actuator_delay=(0.0, 0.01), observation_delay_steps=(0, 1),
)  # fmt: skip
"""What datasheets and identifications of one and the same arm differ by, and a little more."""

ARM_PPO = PpoConfig(
    n_envs=256, updates=150, rollout_steps=32, epochs=3, minibatches=16, hidden=(128, 128), critic_hidden=(128, 128),
    gamma=0.95, initial_std=0.4,
)  # fmt: skip

# Steps of the tool: to lift or push is one action among seven, not a concert of all joints.
GRASP = ArmSimConfig(action="end_effector_delta", gripper_scale=8.0, randomization=ARM_RANDOMIZED)
TOOL_PPO = replace(ARM_PPO, gamma=0.97, learning_rate=7e-4, initial_std=0.5, entropy_weight=0.003)

# Small steps: the tool moves by up to 1 mm in each.
INSERT = ArmSimConfig(action_scale=0.05, episode_steps=200, randomization=ARM_RANDOMIZED)

# Why so: "On a scripted base" in docs/learners.md
CORRECTING_SAC = SacConfig(
    n_envs=32, updates=385, warmup_steps=16_000, replay_size=700_000, hidden=(128, 128), critic_hidden=(128, 128),
    gamma=0.985, n_step=16, reward_scale=0.2, critic_norm=True, critic_action_scale=5.0, critic_warmup=9, policy_delay=2,
    learning_rate=2e-4, rate_falls=True, initial_std=0.03, exploration_std=0.3, exploration_steps=16,
    correction_weight=0.03, initial_temperature=3e-4, target_entropy=-2.5,
)  # fmt: skip

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="l2f-hover",
        about="the benchmark of arXiv 2311.13081: hover from up to 90 degrees of tilt",
        robot="crazyflie-l2f",
        task="hover",
    ),
    Preset(
        name="crazyflie-hover",
        about="the default: the identified Crazyflie, randomised and delayed",
        robot="crazyflie",
        task="hover",
        sim=SimConfig(randomization=RANDOMIZED),
        algo=ShortHorizonConfig(n_envs=64, updates=700, horizon_end=60, learning_rate=1.5e-2),
    ),
    Preset(
        name="crazyflie-track",
        about="follow smooth trajectories and Lissajous figures with the identified Crazyflie",
        robot="crazyflie",
        task="track",
        sim=SimConfig(randomization=RANDOMIZED),
        algo=ShortHorizonConfig(n_envs=64, updates=1000, horizon_end=60, learning_rate=1.5e-2),
    ),
    Preset(
        name="x500-hover",
        about="hover a 2 kg PX4 X500-class quadrotor",
        robot="x500",
        task="hover",
        sim=SimConfig(
            # At 1.7 times its weight in thrust, wider ranges would ask for more than it has.
            randomization=replace(RANDOMIZED, mass=0.1, thrust=0.1),
            start=Start(tilt=math.pi / 4),
            disturbances=Disturbances(torque=1e-3, gust=0.03),
        ),
        algo=ShortHorizonConfig(n_envs=64, updates=700, horizon_end=80, learning_rate=1.5e-2),
    ),
    Preset(
        name="crazyflie-hover-ppo",
        about="the default's task and robot, learned without gradients of the simulator",
        robot="crazyflie",
        task="hover",
        sim=SimConfig(randomization=RANDOMIZED, history=16),
        algo=PpoConfig(
            n_envs=256,
            updates=240,
            rollout_steps=64,
            epochs=3,
            minibatches=16,
            learning_rate=1.2e-3,
            gamma=0.97,
            history_weight=0.07,
            initial_std=0.3,
        ),
    ),
    Preset(
        name="panda-reach",
        about="bring the tool of a Franka Panda to a pose",
        robot="panda",
        task="reach",
        sim=ArmSimConfig(randomization=ARM_RANDOMIZED),
        algo=ARM_PPO,
    ),
    Preset(
        name="ur5e-reach",
        about="bring the flange of a UR5e to a pose",
        robot="ur5e",
        task="reach",
        sim=ArmSimConfig(randomization=ARM_RANDOMIZED),
        algo=ARM_PPO,
    ),
    Preset(
        name="panda-lift",
        about="pick a cube from the floor with a Franka Panda and carry it to a target",
        robot="panda",
        task="lift",
        sim=replace(GRASP, head_start=0.3),
        algo=replace(TOOL_PPO, updates=640),
    ),
    Preset(
        name="panda-push",
        about="push a box over the floor to a target with a Franka Panda's closed hand",
        robot="panda",
        task="push",
        sim=ArmSimConfig(
            action="end_effector_delta", episode_steps=200, randomization=ARM_RANDOMIZED
        ),
        algo=replace(TOOL_PPO, updates=800, gamma=0.98),
    ),
    Preset(
        name="panda-insert",
        about="correct a script that inserts a peg into a hole with 1 mm of clearance in half of the cases",
        robot="panda",
        task="insert",
        sim=INSERT,
        base="insert",
        algo=replace(ARM_PPO, updates=400, learning_rate=5e-4, gamma=0.98, initial_std=0.2),
    ),
    Preset(
        name="panda-insert-sac",
        about="correct the same script by SAC, with a fifth of the steps",
        robot="panda",
        task="insert",
        sim=INSERT,
        base="insert",
        algo=CORRECTING_SAC,
    ),
    Preset(
        name="panda-pivot-lift",
        about="lift a flat box that a Franka Panda can only grasp once it stands out over an edge",
        robot="panda",
        task="pivot_lift",
        sim=replace(GRASP, assisting_force=2.0, head_start=0.5, episode_steps=250),
        algo=replace(TOOL_PPO, updates=650, gamma=0.98, assisted=0.3),
    ),
)


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        AlulaError: unknown name; the message lists the known ones.
    """
    for preset in PRESETS:
        if preset.name == name:
            return preset
    raise AlulaError(f"unknown preset {name!r}; known: {', '.join(p.name for p in PRESETS)}")
