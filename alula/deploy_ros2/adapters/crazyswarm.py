"""Crazyswarm2: Odometry in, VelocityWorld out, for policies that command the velocity.

Crazyswarm2 has no command for motors: policies that command them run on board (docs/crazyflie.md). Its odometry has
velocities in the world and no body rates; the safety layer gets those of the attitude's changes.

Where set-points stop coming, the Crazyflie levels out after half a second and stops its motors after two. So whoever
gives up hands over: the firmware's own high-level commander is told to take over, and to land.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.node import Node

from alula.deploy_ros2.adapters.interface import Timing, stamp_of
from alula.deploy_ros2.adapters.multirotor import NEWEST, odometry_samples
from alula.deploy_ros2.adapters.vehicle_reference import VehicleReference
from alula.deploy_ros2.node_config import NodeConfig
from alula.deploy_ros2.pilot import SINK
from alula.deploy_ros2.samples import Reference, Sample
from alula.errors import AlulaError
from alula.frames import quat_multiply

if TYPE_CHECKING:
    from alula.deploy_ros2.runner import PolicyRunner

LOW_POWER, IS_FLYING = 3, 16
"""Status: the value of pm_state at a low battery, the bit of supervisor_info in flight."""
REMAIN_VALID_MS = 100
"""So long the last set-point counts once their end was announced [ms]."""
LONGEST_STEP = 0.2
"""Attitudes further apart say nothing about the body rate [s]."""


@dataclass(frozen=True, kw_only=True)
class CrazyswarmConfig:
    """Topics and services, below the name of the Crazyflie."""

    name: str = "cf231"
    """Name of the Crazyflie in crazyflies.yaml."""
    odometry: str = "odom"
    """nav_msgs/Odometry in, as the back end `cpp` sends it; needs a default topic `odom` at the policy's rate."""
    status: str = "status"
    """crazyflie_interfaces/Status in."""
    command: str = "cmd_velocity_world"
    """crazyflie_interfaces/VelocityWorld out; of the firmware's controllers the PID (1) is made for it."""
    land: bool = True
    """Whether the Crazyflie is told to land by itself when the node gives up; else it is only handed over."""


def body_rate(quat_before: np.ndarray, quat_after: np.ndarray, dt: float) -> np.ndarray:
    """Mean body rate [rad/s] (3) between two attitudes, scalar first (4), dt [s] apart."""
    conjugate = quat_before * [1.0, -1.0, -1.0, -1.0]
    turn = quat_multiply(conjugate, quat_after)
    # q and -q are one rotation; the shorter way is meant.
    turn = -turn if turn[0] < 0.0 else turn
    # turn = (cos a/2, n sin a/2), w = a n / dt
    sine = float(np.linalg.norm(turn[1:]))
    angle = 2.0 * np.arctan2(sine, turn[0])
    return turn[1:] * (angle / (sine * dt)) if sine > 1e-12 else np.zeros(3)


def velocity_world(msg: Any, velocity_w: np.ndarray, now: float) -> Any:
    """Velocity in the world [m/s] (3), z up as Crazyswarm2's, and no turn."""
    message = msg.VelocityWorld(yaw_rate=0.0)
    message.header.stamp = stamp_of(now)
    message.header.frame_id = "world"
    message.vel.x, message.vel.y, message.vel.z = (float(v) for v in velocity_w)
    return message


class CrazyswarmAdapter:
    """See the module."""

    def __init__(
        self,
        node: Node,
        config: CrazyswarmConfig,
        node_config: NodeConfig,
        runner: "PolicyRunner",
        timing: Timing,
        on_state: Callable[[], None],
        interfaces: tuple[Any, Any] | None = None,
    ) -> None:
        """Subscribe and publish; `interfaces` replaces crazyflie_interfaces.msg and .srv in tests.

        Raises:
            AlulaError: crazyflie_interfaces is not installed, or the policy does not command the velocity.
        """
        if runner.level != "velocity":
            raise AlulaError(
                f"the policy commands {runner.level}; Crazyswarm2 takes: velocity "
                "(others run on board, docs/crazyflie.md)"
            )
        self._msg, self._srv = interfaces if interfaces is not None else _interfaces()
        self._node, self._config, self._timing, self._on_state = node, config, timing, on_state
        self.samples: dict[str, Sample] = {}
        self.battery: float | None = None
        self.landed, self.engaged = False, True
        self._begun = False
        self._references = VehicleReference(node, node_config)
        self._subscriptions = [
            node.create_subscription(
                Odometry, self._at(config.odometry), self._on_odometry, NEWEST
            ),
            node.create_subscription(
                self._msg.Status, self._at(config.status), self._on_status, NEWEST
            ),
        ]
        self._publisher = node.create_publisher(
            self._msg.VelocityWorld, self._at(config.command), 1
        )
        self._motors_off = node.create_publisher(Twist, self._at("cmd_vel_legacy"), 1)
        self._hand_over = node.create_client(
            self._srv.NotifySetpointsStop, self._at("notify_setpoints_stop")
        )
        self._land = node.create_client(self._srv.Land, self._at("land"))

    @property
    def refused(self) -> int:
        """Set-points and trajectories that were refused so far."""
        return self._references.refused

    def start(self, now: float) -> None:
        """The policy takes over."""
        self._begun = True
        self._references.start(self.samples["position_w"].value)

    def reference(self, now: float) -> Reference | None:
        """Where the vehicle shall be at time now [s]."""
        return self._references.at(now)

    def send(self, command: np.ndarray, now: float) -> None:
        """Publish a velocity in the world [m/s] (3)."""
        self._publisher.publish(velocity_world(self._msg, command, now))

    def beat(self, now: float) -> None:
        """The commands are the heartbeat."""

    def release(self) -> None:
        """Hand over to the firmware's high-level commander, which lands where it is told to."""
        if not self._begun:
            return
        self._begun = False
        request = self._srv.NotifySetpointsStop.Request(
            remain_valid_millisecs=REMAIN_VALID_MS, group_mask=0
        )
        self._hand_over.call_async(request)
        if self._config.land:
            request = self._srv.Land.Request(group_mask=0, height=0.0)
            # Where the height is not known, as from one metre.
            position = self.samples.get("position_w")
            height = 1.0 if position is None else float(position.value[2])
            seconds = max(height, 0.3) / SINK if np.isfinite(height) else 1.0 / SINK
            request.duration.sec, request.duration.nanosec = int(seconds), round(seconds % 1 * 1e9)
            self._land.call_async(request)

    def stop(self) -> None:
        """Motors off: level and no thrust."""
        self._motors_off.publish(Twist())

    def rivals(self) -> int:
        """Other publishers of commands."""
        return max(0, self._node.count_publishers(self._publisher.topic_name) - 1)

    def close(self) -> None:
        """Give back every subscription, publisher and client."""
        self._references.close()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for publisher in (self._publisher, self._motors_off):
            self._node.destroy_publisher(publisher)
        for client in (self._hand_over, self._land):
            self._node.destroy_client(client)

    def _at(self, name: str) -> str:
        return f"{self._config.name}/{name}"

    def _on_odometry(self, message: Odometry) -> None:
        stamp = self._timing.of(message.header.stamp)
        new, before = odometry_samples(message, stamp, twist_in_body=False), self.samples
        # The message has no body rates; zeros would be a lie.
        del new["angular_velocity_b"]
        attitude = before.get("quat_wb")
        if attitude is not None and 0.0 < (dt := stamp - attitude.stamp) < LONGEST_STEP:
            rate = body_rate(attitude.value, new["quat_wb"].value, dt)
            new["angular_velocity_b"] = Sample(value=rate, stamp=stamp)
        self.samples |= new
        self._on_state()

    def _on_status(self, message: Any) -> None:
        # The firmware judges its battery by itself; it gives no charge.
        self.battery = 0.0 if message.pm_state == LOW_POWER else None
        self.landed = not message.supervisor_info & IS_FLYING


def _interfaces() -> tuple[Any, Any]:
    try:
        names = ("crazyflie_interfaces.msg", "crazyflie_interfaces.srv")
        return import_module(names[0]), import_module(names[1])
    except ImportError:
        raise AlulaError(
            "the adapter crazyswarm needs the package crazyflie_interfaces of Crazyswarm2"
        ) from None
