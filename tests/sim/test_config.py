"""Settings are checked where they are made, wherever they come from."""

from dataclasses import asdict

import pytest

from alula.errors import AlulaError
from alula.evaluation.stored_settings import sim_config_from_json
from alula.sim.config import Disturbances, Limits, Randomization, SimConfig, Start

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Start, {"position": -0.1}),
        (Start, {"position": INF}),
        (Start, {"tilt": 3.2}),
        (Start, {"velocity": NAN}),
        (Start, {"angular_velocity": "1"}),
        (Start, {"rotor_fraction": 1.1}),
        (Start, {"at_rest": 1.1}),
        (Start, {"at_rest": True}),
        (Limits, {"position": 0.0}),
        (Limits, {"velocity": NAN}),
        (Limits, {"angular_velocity": None}),
        (Disturbances, {"force": -1.0}),
        (Disturbances, {"torque": NAN}),
        (Disturbances, {"gust": INF}),
        (Disturbances, {"gust_time": 0.0}),
        (Randomization, {"mass": 1.0}),
        (Randomization, {"lag": -0.1}),
        (Randomization, {"drag": "0.1"}),
        (Randomization, {"action_delay_steps": (2, 1)}),
        (Randomization, {"action_delay_steps": (0, 4)}),
        (Randomization, {"action_delay_steps": (-1, 0)}),
        (Randomization, {"observation_delay_steps": (0, 1.5)}),
        (Randomization, {"observation_delay_steps": (1,)}),
        (Randomization, {"observation_delay_steps": 1}),
        (SimConfig, {"control_dt": 0.0}),
        (SimConfig, {"control_dt": 0.2}),
        (SimConfig, {"substeps": 0}),
        (SimConfig, {"substeps": 1.5}),
        (SimConfig, {"substeps": 101}),
        (SimConfig, {"episode_steps": 0}),
        (SimConfig, {"episode_steps": 10**30}),
        (SimConfig, {"history": -1}),
        (SimConfig, {"history": 65}),
        (SimConfig, {"history": 3.0}),
        (SimConfig, {"noise": -1.0}),
        (SimConfig, {"noise": NAN}),
    ],
)
def test_what_cannot_be_flown_is_refused(kind: type, values: dict) -> None:
    (name,) = values
    with pytest.raises(AlulaError, match=rf"{name} is .*; allowed: "):
        kind(**values)


def test_the_ends_of_the_ranges_are_allowed() -> None:
    SimConfig(control_dt=1e-4, substeps=100, history=64, noise=0, episode_steps=1)
    SimConfig(control_dt=0.1, history=0, limits=Limits(position=INF))
    Start(position=0, tilt=0, rotor_fraction=-1, at_rest=1)
    Randomization(mass=0.999, action_delay_steps=(3, 3), observation_delay_steps=(0, 3))


def test_settings_survive_json() -> None:
    config = SimConfig(
        history=5, randomization=Randomization(mass=0.1, action_delay_steps=(0, 2)),
        start=Start(tilt=0.3), limits=Limits(velocity=3.0), disturbances=Disturbances(gust=0.1),
    )  # fmt: skip
    table = asdict(config)
    table["randomization"]["action_delay_steps"] = [0, 2]
    assert sim_config_from_json(table) == config
