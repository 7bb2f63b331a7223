"""One simulated multirotor with ground, held start, sensor noise, delay and drop-outs; no ROS, used by sim_node only."""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from alula.deploy_ros2.node_config import check_ranges
from alula.deploy_ros2.samples import Sample
from alula.errors import AlulaError
from alula.frames import quat_multiply
from alula.robots.multirotor import Multirotor
from alula.sim.config import Disturbances, Limits, SimConfig
from alula.sim.multirotor.simulator import MultirotorSimulator
from alula.tasks import hover

POSITION, VELOCITY, QUAT, RATE = slice(0, 3), slice(3, 6), slice(6, 10), slice(10, 13)
"""Rows of the simulator's state."""
FAR = 1e6
"""Nothing ends the simulation but its user [m, m/s, rad/s]."""
CRASH_SPEED = 2.0
"""A touch-down faster than this is a crash [m/s]."""


@dataclass(frozen=True, kw_only=True)
class SimMultirotorConfig:
    """What is simulated; every field is a parameter of sim_node."""

    robot: str = "crazyflie"
    """Shipped robot, or path of a robot file."""
    control_dt: float = 0.01
    """Time between two states; a command that comes within one acts from its start [s]."""
    seed: int = 0
    """Seed of noise, disturbance and drop-outs."""
    start: tuple[float, ...] = (0.0, 0.0, 1.0)
    """Where the vehicle is held, as if by hand, until the first command [m]."""
    noise: float = 1.0
    """Factor on the sensor noise of the robot file [-]."""
    delay: float = 0.0
    """Age of the measurements when they are sent [s]."""
    drop_out: float = 0.0
    """Chance that a measurement is not sent [-]."""
    force: float = 0.0
    """Standard deviation of the constant disturbing force, in weights m g [-]."""
    command_timeout: float = 0.1
    """Without a command for this long the motors are turned off [s]."""

    def __post_init__(self) -> None:
        ranges = {
            "control_dt": (1e-4, 0.1), "noise": (0.0, 100.0), "delay": (0.0, 1.0), "drop_out": (0.0, 1.0),
            "force": (0.0, 1.0), "command_timeout": (1e-3, 10.0), "seed": (0, 2**31),
        }  # fmt: skip
        check_ranges(self, ranges)
        if len(self.start) != 3 or not all(math.isfinite(x) for x in self.start):
            raise AlulaError(f"start is {self.start}; allowed: 3 finite numbers [m]")
        if self.start[2] < 0.0:
            raise AlulaError(f"start is {self.start}; allowed: z >= 0, the ground")


class SimMultirotor:
    """The vehicle in alula's own physics, one step of `control_dt` at a time.

    `held` until the first command; `on_ground` while it stands there; `touchdown_speed` [m/s] is that of the last
    touch-down, None before.
    """

    def __init__(self, robot: Multirotor, config: SimMultirotorConfig) -> None:
        self.robot, self.config = robot, config
        flight = SimConfig(
            control_dt=config.control_dt,
            history=0,
            noise=0.0,
            disturbances=Disturbances(force=config.force, torque=0.0),
            limits=Limits(position=FAR, velocity=FAR, angular_velocity=FAR),
        )
        self._simulator = MultirotorSimulator(robot, hover, flight, 1, auto_reset=False)
        self._simulator.reset(config.seed)
        self._rng = np.random.default_rng(config.seed)
        self._span = robot.throttle_max - robot.throttle_min
        self._sent: deque[tuple[float, dict[str, np.ndarray]]] = deque()
        self.held = True
        self.on_ground = False
        self.touchdown_speed: float | None = None
        self._row = self._simulator.batch.arrays["state"][0, :, 0]
        self._row[:] = 0.0
        self._row[POSITION], self._row[QUAT.start] = config.start, 1.0

    @property
    def position_w(self) -> np.ndarray:
        """True position [m] (3)."""
        return self._row[POSITION].astype(float)

    @property
    def velocity_w(self) -> np.ndarray:
        """True velocity [m/s] (3)."""
        return self._row[VELOCITY].astype(float)

    @property
    def quat_wb(self) -> np.ndarray:
        """True attitude, scalar first (4)."""
        return self._row[QUAT].astype(float)

    @property
    def angular_velocity_b(self) -> np.ndarray:
        """True body rate [rad/s] (3)."""
        return self._row[RATE].astype(float)

    def step(self, throttle: np.ndarray | None) -> None:
        """Fly on by control_dt with the throttle of each rotor in [0, 1] (R); None: motors off."""
        if self.held:
            if throttle is None:
                return
            self.held = False
            # In the hand the rotors already turn at what is commanded.
            self._row[RATE.stop :] = np.clip(throttle, 0.0, 1.0)
        off = throttle is None
        u = np.full(self.robot.n_rotors, self.robot.throttle_min) if off else np.asarray(throttle)
        # action = 2 (throttle - low) / (high - low) - 1
        action = 2.0 * (u - self.robot.throttle_min) / self._span - 1.0
        self._simulator.step(np.clip(action, -1.0, 1.0)[None])
        self._ground(off)

    def _ground(self, off: bool) -> None:
        # The ground takes all momentum: what comes down stays, level, until the thrust lifts it.
        if self._row[2] >= 0.0:
            self.on_ground = self.on_ground and self._row[2] == 0.0
            return
        if not self.on_ground:
            self.touchdown_speed = -float(self._row[5])
        self.on_ground = True
        self._row[2] = 0.0
        self._row[VELOCITY] = self._row[RATE] = 0.0
        w, _, _, z = self._row[QUAT]
        n = math.hypot(w, z)
        # Only the heading is left; upside down there is none.
        self._row[QUAT] = [w / n, 0.0, 0.0, z / n] if n > 1e-6 else [1.0, 0.0, 0.0, 0.0]

    @property
    def crashed(self) -> bool:
        """Whether the last touch-down was faster than a landing."""
        return self.touchdown_speed is not None and self.touchdown_speed > CRASH_SPEED

    def measure(self, now: float) -> dict[str, Sample]:
        """What the sensors tell now [s]: samples by name with noise and age; empty where nothing is to be sent."""
        self._sent.append((now, self._noisy()))
        # Half a step of margin: a delay of a whole number of steps must not depend on rounding.
        ready = now - self.config.delay + 0.5 * self.config.control_dt
        found = None
        while self._sent and self._sent[0][0] <= ready:
            found = self._sent.popleft()
        if found is None or self._rng.random() < self.config.drop_out:
            return {}
        return {name: Sample(value=value, stamp=found[0]) for name, value in found[1].items()}

    def _noisy(self) -> dict[str, np.ndarray]:
        robot, k = self.robot, self.config.noise

        def noisy(value: np.ndarray, deviation: float) -> np.ndarray:
            return value + k * deviation * self._rng.standard_normal(3)

        # A small turn by the vector v is (1, v / 2); its matrix's entries then move by about |v|.
        turn = 0.5 * k * robot.orientation_noise * self._rng.standard_normal(3)
        quat = quat_multiply(self.quat_wb, np.array([1.0, *turn]))
        return {
            "position_w": noisy(self.position_w, robot.position_noise),
            "velocity_w": noisy(self.velocity_w, robot.velocity_noise),
            "quat_wb": quat / np.linalg.norm(quat),
            "angular_velocity_b": noisy(self.angular_velocity_b, robot.angular_velocity_noise),
        }
