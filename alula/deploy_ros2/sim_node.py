"""sim_node: a simulated multirotor in real time that speaks the generic interface, in place of the robot.

Publishes `odometry`, takes throttles on `command`. It is held in the air, as if by hand, until the first command.
When commands stay away for `command_timeout`, it turns its motors off and says so; it stays off until sim_node is
started anew or `~/reset` is called, as a robot that fell would.
"""

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from nav_msgs.msg import Odometry
from rclpy.node import Node
from std_msgs.msg import Float32MultiArray
from std_srvs.srv import Trigger

from alula.deploy_ros2.adapters.interface import stamp_of
from alula.deploy_ros2.adapters.multirotor import NEWEST
from alula.deploy_ros2.adapters.parameters import declare, read
from alula.deploy_ros2.adapters.process import run
from alula.deploy_ros2.samples import Sample
from alula.deploy_ros2.sim_multirotor import SimMultirotor, SimMultirotorConfig
from alula.frames import rot_from_quat
from alula.robots.multirotor import load_robot

LATE = 1.5
"""Steps between two runs of the timer from which on the simulation counts as slower than real time."""


class SimNode(Node):
    """The node; parameters are the fields of SimMultirotorConfig."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        declare(self, SimMultirotorConfig)
        self._config = read(self, SimMultirotorConfig)
        self._robot = load_robot(self._config.robot)
        self._label = ",".join(self._robot.rotor_names)
        self._odometry = self.create_publisher(Odometry, "odometry", NEWEST)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_subscription(Float32MultiArray, "command", self._on_command, NEWEST)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._begin()
        self.create_timer(self._config.control_dt, self._on_timer)
        self.create_timer(0.5, self._report)

    def _begin(self) -> None:
        self._sim = SimMultirotor(self._robot, self._config)
        self._throttle: np.ndarray | None = None
        self._silent = 0.0
        self._slow = 0
        self._off = False
        self._refused = 0
        self._last = time.monotonic()
        self._stamp = 0.0

    def _on_command(self, message: Float32MultiArray) -> None:
        throttle = np.asarray(message.data, float)
        label = next((d.label for d in message.layout.dim), self._label)
        if throttle.shape != (self._robot.n_rotors,) or label != self._label:
            self._refuse(f"{throttle.size} numbers for {label!r}; allowed: {self._label!r}")
        elif not (np.isfinite(throttle).all() and throttle.min() >= 0.0 and throttle.max() <= 1.0):
            self._refuse(f"throttles {throttle.tolist()}; allowed: 0 to 1")
        elif not self._off:
            self._throttle, self._silent = throttle, 0.0

    def _refuse(self, why: str) -> None:
        self._refused += 1
        self.get_logger().warning(f"command refused: {why}", throttle_duration_sec=1.0)

    def _on_timer(self) -> None:
        # A simulation that was held up goes on where it was: flying on blindly in between would be nobody's fault.
        clock = time.monotonic()
        self._slow += int((clock - self._last) / self._config.control_dt > LATE)
        self._last = clock
        if self._throttle is not None and not self._off:
            # In time of the simulation, so that a pause of its own is no silence of the commander.
            self._silent += self._config.control_dt
            if self._silent > self._config.command_timeout:
                self._turn_off()
        on_ground = self._sim.on_ground
        self._sim.step(None if self._off else self._throttle)
        if self._sim.on_ground and not on_ground:
            kind = "crashed" if self._sim.crashed else "landed"
            self.get_logger().info(f"{kind} at {self._sim.touchdown_speed:.2f} m/s")
        self._stamp = stamp_after(
            self._stamp, 1e-9 * self.get_clock().now().nanoseconds, self._config.control_dt
        )
        samples = self._sim.measure(self._stamp)
        if samples:
            self._odometry.publish(odometry_message(samples))

    def _turn_off(self) -> None:
        self._off = True
        limit = self._config.command_timeout
        self.get_logger().error(f"no command for {limit:g} s: motors off")
        self._report()

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._begin()
        response.success, response.message = True, "held at the start"
        return response

    def _report(self) -> None:
        sim = self._sim
        state = "held" if sim.held else "on the ground" if sim.on_ground else "flying"
        values = {
            "motors": "off" if self._off else "on",
            "position_w": " ".join(f"{x:.3f}" for x in sim.position_w),
            "touchdown_speed": str(sim.touchdown_speed),
            "late_steps": str(self._slow),
            "commands_refused": str(self._refused),
        }
        status = DiagnosticStatus(
            level=DiagnosticStatus.ERROR if self._off else DiagnosticStatus.OK,
            name=self.get_name(),
            message=f"motors off, {state}" if self._off else state,
            hardware_id=f"simulated {self._robot.name}",
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def stamp_after(last: float, now: float, dt: float) -> float:
    """Time of the state one step of dt after the one at `last` [s].

    Steps are dt apart however the timer jitters, else a moving vehicle would seem to be where it is not yet. Only a
    simulation that was held up by more than a step goes on at the present time; nothing comes from the future.
    """
    due = last + dt
    return now if now - due > dt else min(due, now)


def odometry_message(samples: dict[str, Sample]) -> Odometry:
    """The samples as nav_msgs/Odometry: pose in the world, twist in the body."""
    message = Odometry(child_frame_id="base_link")
    message.header.frame_id = "world"
    message.header.stamp = stamp_of(samples["position_w"].stamp)
    quat = samples["quat_wb"].value
    pose, twist = message.pose.pose, message.twist.twist
    # v_b = R_wb^T v_w
    velocity_b = rot_from_quat(quat).T @ samples["velocity_w"].value
    o = pose.orientation
    o.w, o.x, o.y, o.z = quat.tolist()
    for vector, value in (
        (pose.position, samples["position_w"].value),
        (twist.linear, velocity_b),
        (twist.angular, samples["angular_velocity_b"].value),
    ):
        vector.x, vector.y, vector.z = value.tolist()
    return message


def main() -> None:
    """Entry point of `ros2 run alula sim_node`."""
    run(SimNode)


if __name__ == "__main__":
    main()
