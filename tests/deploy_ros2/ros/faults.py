"""The faults of a flying multirotor: how each is brought about, and what must become of it."""

import math
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, Transform
from nav_msgs.msg import Odometry
from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint

FOLLOWED = 0.1
"""A vehicle so far from where it took off follows a reference [m]."""
SENSORS, OTHERS, PROCESSES = "measurements", "operator, reference and rivals", "processes"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault."""

    name: str
    """What happens, in the words of docs/faults.md."""
    group: str
    """Part of the table."""
    inject: Callable
    """Takes a flight, brings the fault about, returns when it began [s]."""
    states: tuple[str, ...] = ()
    """Who must be in command one after another from then on; empty: the policy flies on; ?: and whatever follows."""
    end: str = "hover"
    """What must become of the flight: hover, landed, off or gone (see Outcome.end); | separates what is allowed."""
    codes: tuple[str, ...] = ()
    """Checks that must have been reported."""
    counts: tuple[str, ...] = ()
    """Checks that must have been counted."""
    reaction: float = math.inf
    """Within this the first change must be on the wire [s]."""
    least: float = 0.8
    """Look at least so long [s]."""
    most: float = 15.0
    """The end must have come within this [s]."""
    touchdown: float = 0.7
    """Fastest touch-down of a landing [m/s]."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    """Parameters of policy_node."""
    reference: Mapping[str, object] | None = None
    """Parameters of reference_node; None: there is none."""
    anew: bool = False
    """Whether something of it stays, so that each repetition needs new processes."""
    own_time: bool = False
    """Whether the robot's time stood still."""
    quick: bool = False
    """Whether it belongs to the tests that always run."""


# Measurements


def shifted(message: Odometry, by: float) -> Odometry:
    """The same, measured so much later [s]."""
    stamp = message.header.stamp
    ns = stamp.sec * 10**9 + stamp.nanosec + round(1e9 * by)
    message.header.stamp = Time(sec=ns // 10**9, nanosec=ns % 10**9)
    return message


def tampered(make: Callable) -> Callable:
    """A fault of the odometry; `make` gives a fresh Tamper."""
    return lambda flight: flight.wire.begin(make())


def drop(seconds: float) -> Callable:
    """No measurement comes."""
    return tampered(lambda: lambda m, t: [] if t < seconds else [m])


def changed_by(change: Callable, seconds: float = math.inf) -> Callable:
    """Each measurement is changed in place, so long."""

    def tamper(message: Odometry, t: float) -> list[Odometry]:
        if t < seconds:
            change(message, t)
        return [message]

    return tamper


def changed(change: Callable, seconds: float = math.inf) -> Callable:
    """Each measurement is changed in place, so long."""
    return tampered(lambda: changed_by(change, seconds))


def duplicated(m: Odometry, _: float) -> list[Odometry]:
    """Each comes twice."""
    return [m, m]


def lost() -> Callable:
    """One of five is lost, at random."""
    rng = random.Random(0)
    return lambda m, _: [] if rng.random() < 0.2 else [m]


def frozen() -> Callable:
    """The same measurement again and again."""
    first: list[Odometry] = []

    def tamper(message: Odometry, _: float) -> list[Odometry]:
        first.append(message)
        return first[:1]

    return tamper


def reordered(every: int) -> Callable:
    """One of so many is overtaken by the next."""

    def make() -> Callable:
        waiting: list[Odometry] = []
        count = [0]

        def tamper(message: Odometry, _: float) -> list[Odometry]:
            count[0] += 1
            if waiting:
                return [message, waiting.pop()]
            if count[0] % every == 1:
                waiting.append(message)
                return []
            return [message]

        return tamper

    return tampered(make)


def delayed(seconds: float) -> Callable:
    """Each comes late."""

    def make() -> Callable:
        waiting: deque[tuple[float, Odometry]] = deque()

        def tamper(message: Odometry, t: float) -> list[Odometry]:
            waiting.append((t + seconds, message))
            return [waiting.popleft()[1] for at, _ in list(waiting) if at <= t]

        return tamper

    return tampered(make)


def halved() -> Callable:
    """Each second one is lost."""
    count = [0]

    def tamper(message: Odometry, _: float) -> list[Odometry]:
        count[0] += 1
        return [message] if count[0] % 2 else []

    return tamper


def once(change: Callable) -> Callable:
    """One measurement is changed."""

    def make() -> Callable:
        done: list[bool] = []

        def tamper(message: Odometry, t: float) -> list[Odometry]:
            if not done:
                done.append(True)
                change(message, t)
            return [message]

        return tamper

    return tampered(make)


def ahead(by: float) -> Callable:
    """Stamps so much later [s]."""

    def change(m: Odometry, _: float) -> None:
        shifted(m, by)

    return change


def nan_position(m: Odometry, _: float) -> None:
    """As an estimator that has diverged."""
    m.pose.pose.position.x = math.nan


def quaternion(value: float) -> Callable:
    """All four components the same."""

    def change(m: Odometry, _: float) -> None:
        q = m.pose.pose.orientation
        q.w = q.x = q.y = q.z = value

    return change


def moved(m: Odometry, _: float) -> None:
    """1 m beside."""
    m.pose.pose.position.x += 1.0


def rolled(m: Odometry, angle: float) -> None:
    """Turned about body x by an angle [rad]."""
    q = m.pose.pose.orientation
    c, s = math.cos(0.5 * angle), math.sin(0.5 * angle)
    # q (c, s, 0, 0)
    q.w, q.x, q.y, q.z = c * q.w - s * q.x, c * q.x + s * q.w, c * q.y + s * q.z, c * q.z - s * q.y  # fmt: skip


def on_side(m: Odometry, _: float) -> None:
    """Rolled by 90 degrees."""
    rolled(m, 0.5 * math.pi)


def turned(m: Odometry, _: float) -> None:
    """Heading 60 degrees to the left."""
    q = m.pose.pose.orientation
    c, s = math.cos(math.pi / 6.0), math.sin(math.pi / 6.0)
    # (c, 0, 0, s) q
    q.w, q.x, q.y, q.z = c * q.w - s * q.z, c * q.x - s * q.y, c * q.y + s * q.x, c * q.z + s * q.w  # fmt: skip


def drifting(m: Odometry, t: float) -> None:
    """An attitude that drifts away at 3 rad/s, too slowly for a jump."""
    rolled(m, 3.0 * t)


def velocity(value: float) -> Callable:
    """Garbage in all three components."""

    def change(m: Odometry, _: float) -> None:
        v = m.twist.twist.linear
        v.x = v.y = v.z = value

    return change


def spinning(m: Odometry, _: float) -> None:
    """A gyro that says 20 rad/s."""
    m.twist.twist.angular.x = 20.0


def huge(m: Odometry, _: float) -> None:
    """Every number at the end of its range."""
    p, v, w, q = m.pose.pose.position, m.twist.twist.linear, m.twist.twist.angular, m.pose.pose.orientation  # fmt: skip
    for vector in (p, v, w, q):
        vector.x = vector.y = vector.z = 1.7e308
    q.w = -1.7e308


# Others


def service(name: str) -> Callable:
    """The operator calls a service."""
    return lambda flight: flight.wire.trigger(f"policy_node/{name}")[0]


def no_heartbeat(flight) -> float:
    """The operator falls silent."""
    flight.wire.heartbeat = False
    return time.time()


def battery(charge: float) -> Callable:
    """The charge is measured."""
    return lambda flight: flight.wire.charge(charge)


def no_reference(flight) -> float:
    """The reference's process is killed, once the vehicle has followed it away from where it took off.

    Before that the policy's node may not have met it, and cannot miss it.
    """
    begun, start = time.time(), flight.record.odometry[0].position_w
    while math.dist(flight.record.odometry[-1].position_w, start) < FOLLOWED:
        if time.time() - begun > 30.0:
            raise RuntimeError("the vehicle has not followed the reference")
        time.sleep(0.05)
    return flight.signal("reference_node", signal.SIGKILL)


def way_to(x: float, y: float, z: float) -> Callable:
    """A reference elsewhere, all at once."""

    def inject(flight) -> float:
        transform = Transform()
        transform.translation.x, transform.translation.y, transform.translation.z = x, y, z
        point = MultiDOFJointTrajectoryPoint(transforms=[transform])
        now = time.time()
        flight.wire.way.publish(MultiDOFJointTrajectory(points=[point]))
        return now

    return inject


def set_point(x: float, y: float, z: float) -> Callable:
    """A new set-point, approached smoothly."""

    def inject(flight) -> float:
        message = PoseStamped()
        p = message.pose.position
        p.x, p.y, p.z = x, y, z
        now = time.time()
        flight.wire.set_point.publish(message)
        return now

    return inject


def second_commander(flight) -> float:
    """Another node publishes commands; the same as the policy's last, so that the flight goes on."""
    now = time.time()
    flight.wire.appear(flight.record.commands[-1])
    return now


# Processes


def sent(name: str, number: int) -> Callable:
    """A signal to a node."""
    return lambda flight: flight.signal(name, number)


def paused(name: str, seconds: float) -> Callable:
    """A node stands still for a while."""

    def inject(flight) -> float:
        begun = flight.signal(name, signal.SIGSTOP)
        time.sleep(seconds)
        flight.signal(name, signal.SIGCONT)
        return begun

    return inject


def deactivated(flight) -> float:
    """A lifecycle transition in flight."""
    now = time.time()
    flight.wire.transition("deactivate")
    return now


def _fault(name: str, group: str, inject: Callable, states: str = "", end: str = "hover", **more) -> Fault:  # fmt: skip
    return Fault(
        name=name,
        group=group,
        inject=inject,
        states=tuple(s.replace("_", " ") for s in states.split()),
        end=end,
        **more,
    )


STREAMED = {"reference": "streamed"}
HOVER = {"shape": "hover", "centre": (0.2, 0.0, 0.5)}
EIGHT = {"shape": "figure_eight", "centre": (0.0, 0.0, 0.5), "length": 1.0, "width": 0.5}
FENCE = {"safety.fence_low": (-5.0, -5.0, -1.0), "safety.fence_high": (5.0, 5.0, 0.8)}
LIMIT = {"safety.land_limit": 4.0}
AGE = ("attitude_stale",)

FAULTS: tuple[Fault, ...] = (
    _fault("drop-out of 50 ms", SENSORS, drop(0.05), "?"),
    _fault("drop-out of 200 ms", SENSORS, drop(0.2), "hold policy", codes=AGE, reaction=0.2, quick=True),
    _fault("drop-out of 1 s", SENSORS, drop(1.0), "hold release", "off", codes=AGE, reaction=0.2),
    _fault("drop-out of 5 s", SENSORS, drop(5.0), "hold release", "off", codes=AGE, reaction=0.2, least=5.5),
    _fault("one of five measurements lost", SENSORS, tampered(lost), least=2.0),
    _fault("rate halved", SENSORS, tampered(halved), least=2.0),
    _fault("each measurement twice", SENSORS, tampered(lambda: duplicated), least=2.0),
    _fault("each tenth overtaken by the next", SENSORS, reordered(10), counts=("out_of_order",), least=2.0),
    _fault("each second overtaken by the next", SENSORS, reordered(2), "?", "hover|landed", codes=("out_of_order",), least=2.0),
    _fault("the same measurement again and again", SENSORS, tampered(frozen), "hold release", "off", codes=AGE, reaction=0.2),
    _fault("50 ms late, all", SENSORS, delayed(0.05), "hold land stop", "landed", codes=("policy_lost",)),
    _fault("100 ms late, all", SENSORS, delayed(0.1), "hold ?", "landed|off", codes=AGE, touchdown=4.0),
    _fault("one stamp 0.5 s ahead", SENSORS, once(ahead(0.5)), counts=("future",)),
    _fault("sensor's clock jumps by +1 s", SENSORS, changed(ahead(1.0)), "hold release", "off", codes=("future",), reaction=0.2),
    _fault("sensor's clock jumps by -1 s", SENSORS, changed(ahead(-1.0)), "hold release", "off", codes=("out_of_order",), reaction=0.2),
    _fault("one NaN position", SENSORS, once(nan_position), counts=("not_finite",)),
    _fault("NaN position from now on", SENSORS, changed(nan_position), "hold land release", "off", codes=("not_finite",), reaction=0.2, parameters=LIMIT),
    _fault("NaN quaternion for 30 ms", SENSORS, changed(quaternion(math.nan), 0.03), counts=("not_finite",)),
    _fault("NaN quaternion from now on", SENSORS, changed(quaternion(math.nan)), "hold release", "off", codes=("not_finite",), reaction=0.2),
    _fault("zero quaternion from now on", SENSORS, changed(quaternion(0.0)), "hold release", "off", codes=("not_finite",), reaction=0.2),
    _fault("position jumps by 1 m and stays there", SENSORS, changed(moved), "hold land stop", "landed", codes=("position_jump",), reaction=0.1, quick=True),
    _fault("one position 1 m beside", SENSORS, once(moved), "hold land stop", "landed", codes=("position_jump",), reaction=0.1),
    _fault("heading jumps by 60 degrees and stays there", SENSORS, changed(turned), "hold land stop", "landed", codes=("attitude_jump",), reaction=0.1),
    _fault("one attitude rolled by 90 degrees", SENSORS, once(on_side), "hold land stop", "landed", codes=("attitude_jump",), reaction=0.1),
    _fault("attitude drifts at 3 rad/s", SENSORS, changed(drifting), "hold release", "off"),
    _fault("velocity of 1e30 m/s", SENSORS, changed(velocity(1e30)), "hold land release", "off", codes=("not_finite",), reaction=0.2, parameters=LIMIT),
    _fault("velocity of 50 m/s", SENSORS, changed(velocity(50.0)), "hold land release", "off", reaction=0.1, parameters=LIMIT),
    _fault("body rate of 20 rad/s", SENSORS, changed(spinning), "hold release", "off", reaction=0.1),
    _fault("every number 1.7e308", SENSORS, changed(huge), "hold release", "off", codes=("not_finite",), reaction=0.2),
    _fault("operator calls ~/hold", OTHERS, service("hold"), "hold land stop", "landed", reaction=0.3),
    _fault("operator calls ~/land", OTHERS, service("land"), "land stop", "landed", reaction=0.3, quick=True),
    _fault("operator calls ~/release", OTHERS, service("release"), "release", "off", reaction=0.3),
    _fault("operator calls ~/stop in the air", OTHERS, service("stop"), "stop", "landed", reaction=0.3),
    _fault("operator's heartbeat lost", OTHERS, no_heartbeat, "hold land stop", "landed", codes=("heartbeat",), reaction=1.5),
    _fault("battery at 25 %", OTHERS, battery(0.25), codes=("battery_warning",)),
    _fault("battery at 10 %", OTHERS, battery(0.1), "land stop", "landed", codes=("battery_low",), reaction=0.3),
    _fault("battery unknown (NaN)", OTHERS, battery(math.nan)),
    _fault("reference lost at hover", OTHERS, no_reference, "hold land stop", "landed", codes=("reference_stale",), reaction=1.0, parameters=STREAMED, reference=HOVER),
    _fault("reference lost in a figure-eight", OTHERS, no_reference, "hold land stop", "landed", codes=("reference_stale",), reaction=1.0, parameters=STREAMED, reference=EIGHT),
    _fault("reference leaps 10 m away", OTHERS, way_to(10.0, 0.0, 0.5), "hold land stop", "landed", anew=True, codes=("reference_far",), reaction=0.3),
    _fault("reference holds NaN", OTHERS, way_to(math.nan, 0.0, 0.5), anew=True),
    _fault("set-point outside of the geofence", OTHERS, set_point(0.0, 0.0, 1.5), "hold land stop", "landed", anew=True, codes=("geofence",), parameters=FENCE),
    _fault("a second commander appears", OTHERS, second_commander, anew=True, codes=("second_commander",), least=1.5),
    _fault("robot killed", PROCESSES, sent("sim_node", signal.SIGKILL), "hold release", "gone", codes=AGE, reaction=0.3),
    _fault("robot stands still for 1 s", PROCESSES, paused("sim_node", 1.0), "hold release", "off", codes=AGE, reaction=0.3, own_time=True),
    _fault("policy_node killed (SIGKILL)", PROCESSES, sent("policy_node", signal.SIGKILL), "", "off", reaction=0.5, quick=True),
    _fault("policy_node ended (SIGTERM)", PROCESSES, sent("policy_node", signal.SIGTERM), "", "off", reaction=0.6),
    _fault("policy_node deactivated", PROCESSES, deactivated, "not_active", "off", reaction=0.6),
    _fault("policy_node stands still for 30 ms", PROCESSES, paused("policy_node", 0.03)),
    _fault("policy_node stands still for 1 s", PROCESSES, paused("policy_node", 1.0), "release", "off", codes=("stall_lost",), reaction=1.5, least=2.0, quick=True),
)  # fmt: skip
"""Every fault in flight."""
