"""The simulated robot's clock."""

import pytest

pytest.importorskip("rclpy")
from alula.deploy_ros2.sim_node import stamp_after


def test_stamps_are_a_step_apart_however_the_timer_jitters():
    assert stamp_after(5.00, 5.013, 0.01) == pytest.approx(
        5.01
    )  # late: the state is still that of 5.01
    assert stamp_after(5.01, 5.020, 0.01) == pytest.approx(5.02)
    assert stamp_after(5.02, 5.027, 0.01) == pytest.approx(5.027)  # early: never from the future
    assert stamp_after(5.00, 5.021, 0.01) == pytest.approx(5.021)  # held up: a step was lost
    assert stamp_after(0.00, 5.000, 0.01) == 5.0
