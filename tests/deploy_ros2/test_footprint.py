"""What the robot's computer must hold: which packages policy_node loads, and how much memory it takes."""

import os
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest

pytest.importorskip("rclpy")
ROOT = Path(__file__).resolve().parents[2]
flying = run_path(str(Path(__file__).with_name("flying.py")))
MOST_MB = 150.0
UNWANTED = {
    "torch", "mujoco", "numba", "matplotlib", "scipy", "pyarrow", "pandas", "rich", "tyro", "rosbags", "pyulog"
}  # fmt: skip
"""Packages of training, simulation, evaluation and the command line."""
PARTS = {"sim", "tasks", "training", "evaluation", "identification", "flightlog", "presets", "build", "cli"}  # fmt: skip
"""Parts of alula that stay off the robot."""
CODE = """
import sys
import rclpy
from alula.deploy_ros2.policy_node import PolicyNode
rclpy.init(args=["test", *sys.argv[1:]])
node = PolicyNode()
print(node.trigger_configure().name)
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmRSS")))
print(" ".join(sys.modules))
sys.stdout.flush()
import os
os._exit(0)
"""


@pytest.fixture(params=["onnx", "c"])
def configured(request, tmp_path):
    """(result, resident memory [MB], loaded modules) of a node that has configured a policy of the usual size."""
    path = tmp_path / "policy.onnx"
    network, contract = flying["example"]["make_policy"]()
    flying["written"](path, network, flying["own"](contract))
    values = {"policy": path, "robot": "crazyflie", "engine": request.param}
    settings = [x for k, v in values.items() for x in ("-p", f"{k}:={v}")]
    done = subprocess.run(
        [sys.executable, "-c", CODE, "--ros-args", *settings],
        capture_output=True,
        text=True,
        cwd=ROOT,
        # Nobody shall hear it.
        env=os.environ | {"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    *_, result, memory, modules = done.stdout.splitlines()
    assert result == "SUCCESS", done.stderr
    return float(memory) * 1024 / 1e6, set(modules.split())


def test_the_robot_side_is_light(configured):
    megabytes, modules = configured
    packages = {m.split(".")[0] for m in modules}
    assert {"rclpy", "numpy", "onnxruntime"} <= packages
    assert not packages & UNWANTED
    assert not {m.split(".")[1] for m in modules if m.startswith("alula.")} & PARTS
    # About 120 MB on x86-64; whatever the machine does meanwhile does not change it.
    assert megabytes < MOST_MB
