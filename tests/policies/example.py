"""Random networks and their contracts, of the kind a quadrotor's policy has; loaded by several tests."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from alula.policies.contract import ActionEntry, Contract, ObservationEntry
from alula.policies.network import Gru, Network

SENSORS = (
    ("position_w", "m", "w", 3),
    ("rot_wb", "-", "wb", 9),
    ("velocity_w", "m/s", "w", 3),
    ("angular_velocity_b", "rad/s", "b", 3),
)


def make_contract(*, past_actions=32, sensor_history=1, rotors=4, names=None):
    """A quadrotor's contract; `sensor_history` is that of velocity_w, 0 past_actions means none."""
    observation = [
        ObservationEntry(
            name=name,
            unit=unit,
            frame=frame,
            size=size,
            history=sensor_history if name == "velocity_w" else 1,
            noise=0.001,
        )
        for name, unit, frame, size in SENSORS
    ]
    if past_actions:
        past = ObservationEntry(
            name="previous_action",
            unit="-",
            frame="-",
            size=rotors,
            history=past_actions,
            initial=-0.25,
        )
        # In the middle on purpose: nothing may rely on its being the last entry.
        observation.insert(2, past)
    action = tuple(
        ActionEntry(name=name, low=0.0, high=1.0, unit="-", meaning="throttle")
        for name in (names or [f"M{i + 1}" for i in range(rotors)])
    )
    return Contract(
        robot="crazyflie",
        robot_hash="ab" * 32,
        task="hover",
        control_dt=0.01,
        observation=tuple(observation),
        action=action,
        training={"preset": "crazyflie-hover", "seed": 3, "version": "0.1", "success": 0.997},
    )


def make_network(contract, *, hidden=(64, 64), seed=0):
    """He-initialised layers with a small last one, as policies are; each past action weighs little."""
    rng = np.random.default_rng(seed)
    sizes = [contract.observation_size, *hidden, contract.action_size]
    weights = [rng.normal(size=(i, o)) * np.sqrt(2 / i) for i, o in pairwise(sizes)]
    weights[-1] *= 0.5
    scale = []
    for e in contract.observation:
        past = e.name == "previous_action"
        scale += (
            [0.2] * (e.size * e.history) if past else list(rng.uniform(1, 3, e.size * e.history))
        )
    return Network(
        mean=rng.normal(size=sizes[0]) * 0.1,
        scale=np.array(scale),
        clip=5.0,
        weights=tuple(weights),
        biases=tuple(rng.normal(size=o) * 0.1 for o in sizes[1:]),
    )


def make_policy(*, hidden=(64, 64), seed=0, **contract):
    """(network, contract)."""
    made = make_contract(**contract)
    return make_network(made, hidden=hidden, seed=seed), made


def make_gru_network(contract, *, before=(16,), state=16, after=(), seed=0):
    """`make_network` of layers before, state, after, with the layer `state` exchanged for a GRU."""
    dense = make_network(contract, hidden=(*before, state, *after), seed=seed)
    k, rng = len(before), np.random.default_rng([seed, state])
    inputs = dense.weights[k].shape[0]
    gru = Gru(
        kernel=rng.normal(size=(inputs, 3 * state)) / np.sqrt(inputs),
        recurrent=rng.normal(size=(state, 3 * state)) / np.sqrt(state),
        bias=rng.normal(size=3 * state) * 0.1,
        recurrent_bias=rng.normal(size=3 * state) * 0.1,
    )
    return replace(
        dense,
        weights=dense.weights[:k] + dense.weights[k + 1 :],
        biases=dense.biases[:k] + dense.biases[k + 1 :],
        gru=gru,
        gru_after=k,
    )


def make_gru_policy(*, before=(16,), state=16, after=(), seed=0, past_actions=1, **contract):
    """(network, contract) of a recurrent policy; by default dense 22 -> 16, GRU 16, dense 16 -> 4."""
    made = make_contract(past_actions=past_actions, **contract)
    made = replace(made, recurrent_state_size=state)
    return make_gru_network(made, before=before, state=state, after=after, seed=seed), made
