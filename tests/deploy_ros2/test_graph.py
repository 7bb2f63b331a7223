"""What the nodes really say and hear, against what the files beside them claim: permissions, layouts, parameters."""

import json
import re
import time
from pathlib import Path
from runpy import run_path
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy")

import rclpy
from ruamel.yaml import YAML

from alula.deploy_ros2.adapters.multirotor import MultirotorConfig
from alula.deploy_ros2.adapters.parameters import descriptions
from alula.deploy_ros2.adapters.ros2_control import Ros2ControlConfig
from alula.deploy_ros2.node_config import NodeConfig, ReferenceConfig, plain
from alula.deploy_ros2.policy_node import PolicyNode
from alula.deploy_ros2.record_node import TOPICS, RecordNode
from alula.deploy_ros2.reference_node import ReferenceNode
from alula.deploy_ros2.safety_config import SafetyConfig
from alula.deploy_ros2.sim_multirotor import SimMultirotorConfig
from alula.deploy_ros2.sim_node import SimNode
from alula.deploy_ros2.view_node import ViewNode

CONFIG = Path(__file__).parents[2] / "config"
NODES = {
    "policy_node": PolicyNode,
    "sim_node": SimNode,
    "reference_node": ReferenceNode,
    "view_node": ViewNode,
    "record_node": RecordNode,
}
flying = run_path(str(Path(__file__).with_name("flying.py")))


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """Of each node its topics and services: {node: {kind: {name: type}}}; the policy node is configured."""
    folder = tmp_path_factory.mktemp("graph")
    flying["hover"](folder / "policy.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        # On a busy computer the middleware may never tell a process of a topic of its own: once more, elsewhere.
        for domain in ("62", "63", "64"):
            patch.setenv("ROS_DOMAIN_ID", domain)
            found, unknown = told(folder / "policy.onnx", folder / domain)
            if not unknown:
                return found
    raise TimeoutError(f"the middleware did not tell of {sorted(unknown)}")


def told(policy, bag):
    """What the middleware knows of the nodes, and what it was not told of them within half a minute: found, unknown."""
    given = {
        "policy_node:policy": policy,
        "policy_node:robot": "crazyflie",
        "record_node:folder": bag,
    }
    arguments = [x for k, v in given.items() for x in ("-p", f"{k}:={v}")]
    rclpy.init(args=["test", "--ros-args", *arguments])
    nodes = {name: make() for name, make in NODES.items()}
    nodes["policy_node"].trigger_configure()
    # It tells its own process of a new topic a while later, on a busy computer a long while.
    found, since, end = {}, time.monotonic(), time.monotonic() + 30.0
    while time.monotonic() < end:
        before, found = found, {name: known(node, name) for name, node in nodes.items()}
        # And says a part of it before all of it, so what a node has made is waited for by name.
        unknown = set()
        for name, said in found.items():
            unknown |= made(nodes[name]) - {n for kind in said.values() for n in kind}
        if found != before or unknown:
            since = time.monotonic()
        elif time.monotonic() - since > 1.0:
            break
        time.sleep(0.1)
    for node in nodes.values():
        node.destroy_node()
    rclpy.try_shutdown()
    return found, unknown


def made(node):
    """Names of what the node has made itself, and of what every node has."""
    topics = {x.topic_name for x in (*node.publishers, *node.subscriptions)}
    return topics | {x.service_name for x in node.services} | {"/rosout"}


def known(node, name):
    """{kind: {name: type}} of a node, as the middleware knows it now."""
    asked = {
        "publish": node.get_publisher_names_and_types_by_node,
        "subscribe": node.get_subscriber_names_and_types_by_node,
        "reply": node.get_service_names_and_types_by_node,
    }
    return {k: {n: t[0] for n, t in ask(name, "/")} for k, ask in asked.items()}


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
