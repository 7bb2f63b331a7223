"""What the nodes really say and hear, against what the files beside them claim: permissions, layouts, parameters."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from runpy import run_path
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy")

from ruamel.yaml import YAML

from alula.deploy_ros2.adapters.multirotor import MultirotorConfig
from alula.deploy_ros2.adapters.parameters import descriptions
from alula.deploy_ros2.adapters.ros2_control import Ros2ControlConfig
from alula.deploy_ros2.node_config import NodeConfig, ReferenceConfig, plain
from alula.deploy_ros2.record_node import TOPICS
from alula.deploy_ros2.safety_config import SafetyConfig
from alula.deploy_ros2.sim_multirotor import SimMultirotorConfig

CONFIG = Path(__file__).parents[2] / "config"
NODES = ("policy_node", "sim_node", "reference_node", "view_node", "record_node")
flying = run_path(str(Path(__file__).with_name("flying.py")))
wire = run_path(str(Path(__file__).with_name("ros") / "wire.py"))


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """Of each node its topics and services: {node: {kind: {name: type}}}; the policy node is configured."""
    folder = tmp_path_factory.mktemp("graph")
    flying["hover"](folder / "policy.onnx")
    given = {
        "policy_node:policy": folder / "policy.onnx",
        "policy_node:robot": "crazyflie",
        "record_node:folder": folder / "bag",
    }
    arguments = [x for k, v in given.items() for x in ("-p", f"{k}:={v}")]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("graph.py")), "--ros-args", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=CONFIG.parent,
        env=os.environ
        | wire["environment"](wire["free_domain"]())
        | {"RCUTILS_LOGGING_USE_STDOUT": "0"},
        timeout=120,
    )
    assert done.returncode == 0
    configured, found = done.stdout.splitlines()
    assert configured == "SUCCESS"
    return json.loads(found)


def allowed():
    """{node: {publish, subscribe, reply, request: names}} of the policy for SROS 2."""
    found = {}
    for enclave in ElementTree.parse(CONFIG / "sros2_policy.xml").iter("enclave"):
        profile = enclave.find("profiles/profile")
        assert profile is not None
        node = profile.attrib["node"]
        assert enclave.attrib["path"] == f"/alula/{node}"
        assert profile.attrib["ns"] == "/"
        kinds = {k: set() for k in ("publish", "subscribe", "reply", "request")}
        for group in profile:
            for kind, answer in group.attrib.items():
                assert answer == "ALLOW"
                names = ((e.text or "").replace("~", f"/{node}") for e in group)
                kinds[kind] |= {n if n.startswith("/") else f"/{n}" for n in names}
        found[node] = kinds
    return found


@pytest.mark.parametrize("node", NODES)
def test_permissions_are_what_the_node_uses_and_no_more(node, graph):
    may = allowed()[node]
    uses = {kind: set(names) for kind, names in graph[node].items()}
    # One of the two sources is subscribed, by a parameter; topics of a recording are subscribed when they come up.
    parts = {"/pose", "/twist", "/imu"} if node == "policy_node" else set()
    if node == "record_node":
        parts = {t if t.startswith("/") else f"/{t}" for t in TOPICS}
    assert may["publish"] == uses["publish"]
    assert may["subscribe"] == uses["subscribe"] | parts
    assert may["reply"] == uses["reply"]
    assert may["request"] == set()


def test_a_recording_has_what_an_arm_says_and_hears_by_default():
    config = Ros2ControlConfig()
    poses = {config.states, config.goal, config.goal_pose, config.object_pose}
    assert {config.commands, config.trajectory} <= set(TOPICS)
    assert {topic.removeprefix("/") for topic in poses} <= set(TOPICS)


def test_the_operator_speaks_to_nodes_that_listen(graph):
    may, pilot = allowed()["operator"], graph["policy_node"]
    said = {name for node in graph.values() for name in node["publish"]}
    assert may["request"] <= set(pilot["reply"])
    assert may["publish"] - {"/rosout", "/parameter_events"} <= set(pilot["subscribe"])
    assert may["subscribe"] <= said


def test_the_layout_shows_topics_that_are_there(graph):
    said = {name: kind for node in graph.values() for name, kind in node["publish"].items()}
    layout = json.loads((CONFIG / "foxglove.json").read_text())
    panels = layout["configById"]
    shown = {name: said[name] for name in panels["3D!flight"]["topics"]}
    assert shown == {"/path": "nav_msgs/msg/Path", "/markers": "visualization_msgs/msg/MarkerArray"}
    assert said[panels["DiagnosticSummary!state"]["topicToRender"]] == "diagnostic_msgs/msg/DiagnosticArray"  # fmt: skip
    assert panels["RosOut!log"]["topicToRender"] in said
    for plot in ("Plot!position", "Plot!throttle"):
        for path in panels[plot]["paths"]:
            topic, *fields = path["value"].split(".")
            package, _, name = said[topic].split("/")
            value = getattr(__import__(f"{package}.msg").msg, name)()
            for field in fields:
                value = getattr(value, re.sub(r"\[\d\]$", "", field))
    placed = re.findall(r'"((?:3D|Plot|RosOut|DiagnosticSummary)![a-z]+)"', json.dumps(layout["layout"]))  # fmt: skip
    assert sorted(placed) == sorted(panels)


def test_rviz_shows_topics_that_are_there(graph):
    said = {name: kind for node in graph.values() for name, kind in node["publish"].items()}
    manager = YAML(typ="safe").load(CONFIG / "view.rviz")["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "world"
    shown = {d["Class"].split("/")[1]: said[d["Topic"]["Value"]].split("/")[2] for d in manager["Displays"] if "Topic" in d}  # fmt: skip
    assert shown == {"Path": "Path", "MarkerArray": "MarkerArray"}


def test_the_parameter_file_has_every_parameter_with_its_default_and_its_words():
    text = (CONFIG / "multirotor.yaml").read_text()
    given = YAML(typ="safe").load(text)
    pilot = given["policy_node"]["ros__parameters"]
    words = " ".join(text.replace("#", " ").split())
    for values, config in (
        (pilot, NodeConfig),
        (pilot["safety"], SafetyConfig),
        (pilot["multirotor"], MultirotorConfig),
        (given["sim_node"]["ros__parameters"], SimMultirotorConfig),
        (given["reference_node"]["ros__parameters"], ReferenceConfig),
    ):
        default = config()
        about = descriptions(config)
        expected = {name: plain(getattr(default, name)) for name in about}
        assert {k: v for k, v in values.items() if not isinstance(v, dict)} == expected
        for name, said in about.items():
            assert said.rstrip(".").split(". ")[0].replace("`", "")[:40] in words.replace("`", ""), name  # fmt: skip
