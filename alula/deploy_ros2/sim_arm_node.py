"""sim_arm_node: a simulated arm in real time that speaks as ros2_control does, in place of the robot.

Publishes /joint_states with the joints in alphabetical order, as a joint_state_broadcaster may, and takes commands where
the active controller would: the forward controllers in the order of the robot file, trajectories by name. Like theirs,
the last command is held for ever.
"""

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from alula.deploy_ros2.adapters.interface import stamp_of
from alula.deploy_ros2.adapters.parameters import declare, read
from alula.deploy_ros2.adapters.process import run
from alula.deploy_ros2.observation import joint_order
from alula.deploy_ros2.samples import Sample
from alula.deploy_ros2.sim_arm import SimArm, SimArmConfig
from alula.errors import AlulaError
from alula.robots.arm import load_arm

LATE = 1.5
"""Steps between two runs of the timer from which on the simulation counts as slower than real time."""
QOS = QoSProfile(depth=10)
"""What ros2_control's controllers use: reliable, volatile."""


class SimArmNode(Node):
    """The node; parameters are the fields of SimArmConfig."""

    def __init__(self) -> None:
        super().__init__("sim_arm_node")
        declare(self, SimArmConfig)
        self._config = config = read(self, SimArmConfig)
        self._arm = load_arm(config.robot)
        self._sorted = tuple(sorted(self._arm.joint_names))
        self._states = self.create_publisher(JointState, "/joint_states", QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        if config.controller == "joint_trajectory":
            topic = "/joint_trajectory_controller/joint_trajectory"
            self.create_subscription(JointTrajectory, topic, self._on_trajectory, QOS)
        else:
            topic = f"/{config.controller}_controller/commands"
            self.create_subscription(Float64MultiArray, topic, self._on_command, QOS)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._begin()
        self.create_timer(self._sim.control_dt, self._on_timer)
        self.create_timer(0.5, self._report)

    def _begin(self) -> None:
        self._sim = SimArm(self._arm, self._config)
        self._slow = self._commands = self._refused = 0
        self._last = time.monotonic()

    def _on_command(self, message: Float64MultiArray) -> None:
        try:
            self._sim.command(np.array(message.data))
            self._commands += 1
        except AlulaError as e:
            self._refuse(str(e))

    def _on_trajectory(self, message: JointTrajectory) -> None:
        try:
            self._sim.follow(*path_of(message, self._arm.joint_names))
            self._commands += 1
        except AlulaError as e:
            self._refuse(str(e))

    def _refuse(self, why: str) -> None:
        self._refused += 1
        self.get_logger().warning(f"command refused: {why}", throttle_duration_sec=1.0)

    def _on_timer(self) -> None:
        # A simulation that was held up goes on where it was, as sim_node does.
        clock = time.monotonic()
        self._slow += int((clock - self._last) / self._sim.control_dt > LATE)
        self._last = clock
        self._sim.step()
        samples = self._sim.measure(1e-9 * self.get_clock().now().nanoseconds)
        if samples:
            self._states.publish(state_message(samples, self._sorted))

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._begin()
        response.success, response.message = True, "at the start"
        return response

    def _report(self) -> None:
        def text(values: np.ndarray) -> str:
            return " ".join(f"{x:.4f}" for x in values)

        sim = self._sim
        values = {
            "joint_names": " ".join(self._arm.joint_names),
            "joint_position": text(sim.position),
            "set_point": text(sim.target),
            "commands": str(self._commands),
            "commands_refused": str(self._refused),
            "late_steps": str(self._slow),
        }
        status = DiagnosticStatus(
            level=DiagnosticStatus.OK,
            name=self.get_name(),
            message=f"{self._config.controller}_controller",
            hardware_id=f"simulated {self._arm.name}",
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def state_message(samples: dict[str, Sample], names: tuple[str, ...]) -> JointState:
    """The samples as sensor_msgs/JointState, its joints in the order of `names`."""
    message = JointState(name=list(names))
    message.header.stamp = stamp_of(samples["joint_position"].stamp)
    for field in ("position", "velocity", "effort"):
        sample = samples[f"joint_{field}"]
        order = joint_order(sample.names or (), names)
        assert order is not None
        setattr(message, field, sample.value[order].tolist())
    return message


def path_of(message: JointTrajectory, joints: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Times from now [s] (K) and positions in the order of `joints` (K, J) of a trajectory message.

    Raises:
        AlulaError: other joints, or points without positions.
    """
    names = tuple(message.joint_names)
    order = joint_order(names, joints)
    if order is None or len(names) != len(joints):
        raise AlulaError(
            f"a trajectory of joints {', '.join(names)}; allowed: {', '.join(joints)}, any order"
        )
    points = [list(p.positions) for p in message.points]
    if any(len(p) != len(names) for p in points):
        raise AlulaError(f"a trajectory without {len(names)} positions in each point; allowed: all")
    times = [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points]
    return np.array(times), np.array(points, float).reshape(len(points), len(names))[:, order]


def main() -> None:
    """Entry point of `ros2 run alula sim_arm_node`."""
    run(SimArmNode)


if __name__ == "__main__":
    main()
