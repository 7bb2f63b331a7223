"""The files of config/: every parameter with its default and the text under its field, written from the code.

`python tests/deploy_ros2/adapters/parameter_files.py` writes them anew.
"""

import textwrap
from dataclasses import fields
from pathlib import Path

from alula.deploy_ros2.adapters.parameters import descriptions
from alula.deploy_ros2.adapters.robots import CONFIGS
from alula.deploy_ros2.node_config import NodeConfig, ReferenceConfig, plain
from alula.deploy_ros2.safety_config import SafetyConfig
from alula.deploy_ros2.sim_arm import SimArmConfig
from alula.deploy_ros2.sim_multirotor import SimMultirotorConfig

FOLDER = Path(__file__).parents[3] / "config"
WIDTH = 118
COPY = "Every parameter with its default; copy the file and change what differs."
ABOUT = {
    "multirotor": f"Any multirotor that takes throttles, and the simulated one. {COPY}",
    "px4": f"""A PX4 multirotor over uXRCE-DDS in offboard mode. {COPY}

Topics carry the versions of PX4's messages: compare `ros2 topic list`; px4_msgs must be of the firmware's version.
In PX4: UXRCE_DDS_SYNCT = 1 (its stamps are then this computer's time; else set stamps to arrival), COM_OF_LOSS_T and
COM_OBL_RC_ACT (what PX4 does when the heartbeat ends), and for policies that command throttles THR_MDL_FAC = 0, and
COM_DISARM_LAND = -1 unless the firmware's land detector knows direct actuator commands: older ones may take a
flying vehicle for a landed one. Take off and hover in a mode of PX4, then switch to offboard.""",
    "crazyswarm": f"""A Crazyflie through Crazyswarm2, for policies that command the velocity. {COPY}

In crazyflies.yaml: back end cpp, a default topic `odom` at the policy's rate, a default topic `status`, and
stabilizer.controller 1 (PID).""",
    "ros2_control": f"An arm under ros2_control, and the simulated one. {COPY}",
}
"""Files and what they are for."""
SIMULATED = {
    "multirotor": {"sim_node": SimMultirotorConfig, "reference_node": ReferenceConfig},
    "px4": {"reference_node": ReferenceConfig},
    "crazyswarm": {"reference_node": ReferenceConfig},
    "ros2_control": {"sim_arm_node": SimArmConfig},
}
"""Other nodes of each file."""


def shown(value):
    """A value as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def comment(text, indent):
    """A text as comment lines."""
    first = f"{' ' * indent}# "
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=first, break_on_hyphens=False
    )


def parameters(config, indent, **other):
    """Lines of a configuration's fields."""
    about, default = descriptions(config), config()
    for f in fields(config):
        yield from comment(about[f.name], indent)
        value = other.get(f.name, plain(getattr(default, f.name)))
        yield f"{' ' * indent}{f.name}: {shown(value)}"


def page(adapter):
    """The whole file of an adapter."""
    lines = []
    for paragraph in ABOUT[adapter].split("\n\n"):
        lines += [*(["#"] if lines else []), *comment(paragraph, 0)]
    lines += ["", "policy_node:", "  ros__parameters:", *parameters(NodeConfig, 4, adapter=adapter)]
    lines += ["    safety:", *parameters(SafetyConfig, 6)]
    lines += [f"    {adapter}:", *parameters(CONFIGS[adapter], 6)]
    for node, config in SIMULATED[adapter].items():
        lines += ["", f"{node}:", "  ros__parameters:", *parameters(config, 4)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name in ABOUT:
        (FOLDER / f"{name}.yaml").write_text(page(name))
