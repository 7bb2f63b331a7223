"""A bag's topics as signals under our names: on one clock, in order, in the world's axes."""

from dataclasses import replace

import numpy as np

from alula.frames import rot_from_quat
from alula.identification.rosbag import Bag, Topic
from alula.identification.rosbag_messages import ODOMETRY_SIZE, PX4_MOTORS
from alula.identification.usd import RawColumns

CLOCK_APART_S = 1.0
"""Stamps this far from the recorder's clock are of another clock, or wrong [s]."""


def measured_time(topic: Topic) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """When each message was measured on the recorder's clock (T,) [s], which to keep (T,), and what was odd.

    The message's stamp where there is one. Stamps of another clock are shifted so that the fastest message
    took no time; single stamps far from the others are left out.
    """
    notes: list[str] = []
    stamped = np.isfinite(topic.stamp_s)
    if not stamped.all():
        if not stamped.any():
            return topic.received_s, np.ones(len(stamped), bool), notes
        notes.append(f"{topic.name}: {int((~stamped).sum())} messages without a stamp")
    took = topic.received_s - topic.stamp_s
    middle = float(np.nanmedian(took))
    keep = stamped & (np.abs(took - middle) < CLOCK_APART_S)
    if (strays := int((stamped & ~keep).sum())) > 0:
        notes.append(f"{topic.name}: {strays} stamps more than {CLOCK_APART_S:g} s from the others")
    offset = 0.0
    if abs(middle) > CLOCK_APART_S or middle < -0.005:
        offset = float(took[keep].min())
        notes.append(
            f"{topic.name}: its clock is {abs(offset):.6g} s {'behind' if offset > 0 else 'ahead of'} the "
            "recorder's; shifted so that its fastest message took no time"
        )
    time = topic.stamp_s + offset
    backwards = int((np.diff(time[keep]) < 0.0).sum())
    if backwards:
        notes.append(f"{topic.name}: {backwards} stamps run backwards; put in order")
    return time, keep, notes


def in_order(time: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples by increasing time, the first of equal times only."""
    order = np.argsort(time, kind="stable")
    time, value = time[order], value[order]
    fresh = np.concatenate(([True], np.diff(time) > 0.0)) if len(time) else np.zeros(0, bool)
    return time[fresh], value[fresh]


def bag_columns(bag: Bag, chosen: dict[str, str]) -> RawColumns:
    """A bag's signals under our names, as the other readers give them; times from the bag's first message.

    Args:
        bag: the bag.
        chosen: role -> topic (see ROLES) where a type alone does not tell.

    Raises:
        AlulaError: a chosen topic is not there, or more than one could be it.
    """
    columns: RawColumns = {}

    def put(topic: Topic | None, names: dict[str, int], *, received: bool = False) -> None:
        if topic is None:
            return
        time, keep, _ = measured_time(topic)
        time = topic.received_s if received else time
        time, value = in_order(time[keep], topic.value[keep])
        if len(time) > 1:
            columns.update({n: (time, value[:, k]) for n, k in names.items() if k < value.shape[1]})

    odometry = bag.of("odometry", chosen)
    put(bag.of("imu", chosen), _named("acc_{}_m_s2", 3) | _named("gyro_{}_rad_s", 0))
    if odometry is not None:
        put(with_world_velocity(odometry), _STATE)
    elif "pose" in chosen:
        put(bag.of("pose", chosen), _named("position_{}_m", 0) | _QUAT)
    command = bag.of("command", chosen)
    if command is not None:
        rotors = command.value.shape[1] - (command.type == PX4_MOTORS)
        put(command, {f"motor_{k + 1}": k for k in range(rotors)}, received=True)
    put(bag.of("battery", chosen), {"battery_v": 0})
    return columns


def with_world_velocity(odometry: Topic) -> Topic:
    """Odometry whose linear velocity, given in body axes, is turned into the world's."""
    v = odometry.value.copy()
    quat = v[:, 3:7]
    norm = np.linalg.norm(quat, axis=1, keepdims=True)
    v[:, 3:7] = quat / np.where(norm > 0.0, norm, 1.0)
    good = np.abs(norm[:, 0] - 1.0) < 0.1
    v[:, 7:10] = np.einsum("tij,tj->ti", rot_from_quat(v[:, 3:7]), v[:, 7:10])
    return replace(
        odometry,
        received_s=odometry.received_s[good],
        stamp_s=odometry.stamp_s[good],
        value=v[good],
        unreadable=odometry.unreadable + int((~good).sum()),
    )


def _named(pattern: str, first: int) -> dict[str, int]:
    return {pattern.format(axis): first + k for k, axis in enumerate("xyz")}


_QUAT = {f"quat_{axis}": 3 + k for k, axis in enumerate("wxyz")}
_STATE = (
    _named("position_{}_m", 0) | _QUAT | _named("velocity_{}_m_s", 7) | _named("gyro_{}_rad_s", 10)
)
assert len(_STATE) == ODOMETRY_SIZE
