"""Messages of the simulated arm: names and orders, by hand."""

import numpy as np
import pytest

pytest.importorskip("rclpy")
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from alula.deploy_ros2.samples import Sample
from alula.deploy_ros2.sim_arm_node import path_of, state_message
from alula.errors import AlulaError

JOINTS = ("base", "elbow", "arm")


def trajectory(names, *points) -> JointTrajectory:
    """A trajectory with points (time [s], positions)."""
    message = JointTrajectory(joint_names=list(names))
    for time, positions in points:
        point = JointTrajectoryPoint(positions=list(positions))
        point.time_from_start.sec = int(time)
        point.time_from_start.nanosec = round(1e9 * (time - int(time)))
        message.points.append(point)
    return message


def test_a_joint_state_has_the_order_that_was_asked_for():
    values = {"position": [1.0, 2.0, 3.0], "velocity": [4.0, 5.0, 6.0], "effort": [7.0, 8.0, 9.0]}
    samples = {
        f"joint_{key}": Sample(value=np.array(value), stamp=12.25, names=JOINTS)
        for key, value in values.items()
    }
    message = state_message(samples, ("arm", "base", "elbow"))
    assert message.name == ["arm", "base", "elbow"]
    assert list(message.position) == [3.0, 1.0, 2.0]
    assert list(message.velocity) == [6.0, 4.0, 5.0]
    assert list(message.effort) == [9.0, 7.0, 8.0]
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 250_000_000)


def test_a_trajectory_is_read_by_name():
    message = trajectory(("arm", "base", "elbow"), (0.5, (3, 1, 2)), (1.25, (6, 4, 5)))
    times, points = path_of(message, JOINTS)
    assert times.tolist() == [0.5, 1.25]
    assert points.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (trajectory(("arm", "base"), (1.0, (1, 2))), "joints arm, base; allowed: base, elbow, arm"),
        (trajectory((*JOINTS, "hand"), (1.0, (1, 2, 3, 4))), "allowed: base, elbow, arm"),
        (trajectory(("arm", "arm", "base"), (1.0, (1, 2, 3))), "allowed: base, elbow, arm"),
        (trajectory(JOINTS, (1.0, (1, 2))), "without 3 positions in each point"),
    ],
)
def test_other_trajectories_are_refused(message, text):
    with pytest.raises(AlulaError, match=text):
        path_of(message, JOINTS)


def test_a_trajectory_without_points_is_left_to_the_controller():
    times, points = path_of(trajectory(JOINTS), JOINTS)
    assert times.shape == (0,)
    assert points.shape == (0, 3)
