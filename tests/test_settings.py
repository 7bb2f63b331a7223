"""What --set says, and what becomes of it."""

import re
from dataclasses import asdict

import pytest

from alula.errors import AlulaError
from alula.presets import get_preset
from alula.settings import grid, parse_one, parse_settings, settings_text, with_settings

REACH = get_preset("panda-reach")
HOVER = get_preset("l2f-hover")


def test_values_have_the_kind_of_the_setting() -> None:
    texts = [
        "algo.learning_rate=1e-3,3e-3,1",
        "algo.hidden=[64,64],[128]",
        "algo.epochs=2,3",
        "algo.privileged=true,false",
    ]
    assert parse_settings(texts, REACH) == {
        "algo.learning_rate": [1e-3, 3e-3, 1.0],
        "algo.hidden": [(64, 64), (128,)],
        "algo.epochs": [2, 3],
        "algo.privileged": [True, False],
    }


def test_nested_settings() -> None:
    assert parse_settings(["algo.weights.position=2"], HOVER) == {"algo.weights.position": [2.0]}
    changed = with_settings(HOVER, {"algo.weights.position": 2.0, "algo.updates": 7})
    assert changed.algo.weights.position == 2.0  # type: ignore[union-attr]
    assert changed.algo.updates == 7
    # nothing else has changed
    before, after = asdict(HOVER), asdict(changed)
    before["algo"]["weights"]["position"], before["algo"]["updates"] = 2.0, 7
    assert before == after


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("algo.lr=1e-3", "unknown setting 'algo.lr'"),
        ("sim.noise=0", "unknown setting 'sim.noise'"),
        ("algo=1", "unknown setting 'algo'"),
        ("algo.learning_rate", "allowed: algo.NAME=VALUE"),
        ("algo.learning_rate=", "allowed: a value such as 0.001"),
        ("algo.learning_rate=fast", "allowed: a value such as 0.001"),
        ("algo.learning_rate=2.0", "learning_rate is 2.0; allowed: 0 to 1"),
        ("algo.learning_rate=1e-3,1e-3", "names a value twice"),
        ("algo.epochs=2.5", "allowed: a value such as 3"),
        ("algo.epochs=true", "allowed: a value such as 3"),
        ("algo.privileged=1", "allowed: a value such as true"),
        ("algo.hidden=64", "allowed: a value such as [128,128]"),
        ("algo.hidden=[]", "allowed: a value such as [128,128]"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(AlulaError) as e:
        parse_settings([text], REACH)
    assert says in str(e.value)
    assert "\n" not in str(e.value)


def test_settings_of_the_episodes_where_they_are_allowed() -> None:
    texts = ["sim.action=joint_torque", "sim.randomization.actuator_delay=[0,0.02]", "algo.clip=1"]
    found = parse_one(texts, REACH)
    assert found == {
        "sim.action": "joint_torque",
        "sim.randomization.actuator_delay": (0.0, 0.02),
        "algo.clip": 1.0,
    }
    changed = with_settings(REACH, found)
    assert changed.sim.action == "joint_torque"  # type: ignore[union-attr]
    assert changed.sim.randomization.actuator_delay == (0.0, 0.02)  # type: ignore[union-attr]
    for text, says in {
        "sim.action=none": "action is 'none'; allowed: joint_position_delta",
        "sim.randomization=1": "allowed: sim.randomization.mass",
        "sim.randomization.mass.low=1": "allowed: sim.randomization.mass",
        "algo.clip.low=1": "allowed: algo.n_envs",
        "robot=ur5e": "unknown setting 'robot'",
        "algo.clip=0.1,0.2": "2 values of algo.clip; allowed: one",
    }.items():
        with pytest.raises(AlulaError, match=re.escape(says)):
            parse_one([text], REACH)


def test_a_setting_named_twice_is_refused() -> None:
    with pytest.raises(AlulaError, match="each name once"):
        parse_settings(["algo.clip=0.1", "algo.clip=0.2"], REACH)


def test_the_grid_is_every_combination() -> None:
    assert grid({"a": [1, 2], "b": [3, 4, 5]}) == [
        {"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 1, "b": 5},
        {"a": 2, "b": 3}, {"a": 2, "b": 4}, {"a": 2, "b": 5},
    ]  # fmt: skip
    assert grid({}) == [{}]
    with pytest.raises(AlulaError, match="1001 points"):
        grid({"a": range(1001)})


def test_settings_are_written_as_they_are_asked_for() -> None:
    settings = {"algo.learning_rate": 0.003, "algo.hidden": (64, 64)}
    text = settings_text(settings)
    assert text == "algo.learning_rate=0.003 algo.hidden=[64,64]"
    again = parse_settings(text.split(" "), REACH)
    assert {name: values[0] for name, values in again.items()} == settings
