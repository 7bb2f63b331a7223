"""config/*.yaml says what the code does, and a node takes it."""

from pathlib import Path
from runpy import run_path

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from alula.deploy_ros2.adapters.parameters import declare, descriptions, read
from alula.deploy_ros2.adapters.robots import CONFIGS
from alula.deploy_ros2.node_config import NodeConfig
from alula.deploy_ros2.safety_config import SafetyConfig

files = run_path(str(Path(__file__).with_name("parameter_files.py")))
ADAPTERS = list(files["ABOUT"])


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_file_is_that_of_the_code(adapter):
    text = (files["FOLDER"] / f"{adapter}.yaml").read_text()
    assert text == files["page"](adapter), f"run python {files['__file__']}"


def test_every_interface_has_a_file_and_every_parameter_a_text():
    assert set(ADAPTERS) == set(CONFIGS)
    for config in (NodeConfig, SafetyConfig, *CONFIGS.values()):
        assert set(descriptions(config)) >= set(config.__dataclass_fields__)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_node_reads_the_defaults_from_it(adapter, monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = Context()
    path = str(files["FOLDER"] / f"{adapter}.yaml")
    rclpy.init(args=["--ros-args", "--params-file", path], context=context)
    try:
        node = Node("policy_node", context=context)
        declare(node, NodeConfig)
        declare(node, SafetyConfig, "safety.")
        declare(node, CONFIGS[adapter], f"{adapter}.")
        assert read(node, NodeConfig) == NodeConfig(adapter=adapter)
        assert read(node, SafetyConfig, "safety.") == SafetyConfig()
        assert read(node, CONFIGS[adapter], f"{adapter}.") == CONFIGS[adapter]()
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
