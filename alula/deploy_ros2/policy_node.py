"""policy_node: a lifecycle node that flies one policy file on one robot.

configure loads and tests the policy against the robot; activate starts the control loop. A cycle runs at each
measurement that the interface calls worth one, so that nothing waits for a timer; a timer takes over where
measurements stay away. However the process ends, nothing more is sent: the robot's own time-out does the rest.
"""

import gc
import time
import traceback
from collections.abc import Callable
from functools import wraps

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.timer import Timer
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from alula.deploy_ros2.adapters.diagnostics import diagnostic_message, summary
from alula.deploy_ros2.adapters.interface import Adapter, Timing
from alula.deploy_ros2.adapters.parameters import declare, read
from alula.deploy_ros2.adapters.process import LOOK, run
from alula.deploy_ros2.adapters.robots import CONFIGS, make_adapter, required
from alula.deploy_ros2.node_config import NodeConfig
from alula.deploy_ros2.pilot import Around, Output, Pilot
from alula.deploy_ros2.runner import PolicyRunner
from alula.deploy_ros2.safety import Reaction, Reason, Safety, State
from alula.deploy_ros2.safety_config import SafetyConfig, of_arm
from alula.errors import AlulaError
from alula.policies.onnx_file import load_policy
from alula.robots.arm import Arm, load_arm
from alula.robots.multirotor import Multirotor, load_robot

SILENT = 1.5
"""Periods of the loop without a measurement until the timer runs a cycle."""
QUIET = 2.0
"""Least time between two log lines about the same check [s]."""
WAITS, COMMANDS = "the policy waits until the robot listens", "the policy is in command"


def _told(transition: Callable) -> Callable:
    """A transition whose errors are logged: rclpy answers them with on_error and keeps them to itself."""

    @wraps(transition)
    def run_told(node: LifecycleNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            node.get_logger().error(f"{transition.__name__}: {traceback.format_exc()}")
            raise

    return run_told


class PolicyNode(LifecycleNode):
    """The node; parameters are the fields of NodeConfig, of SafetyConfig (`safety.`) and of the adapter's."""

    def __init__(self) -> None:
        super().__init__("policy_node")
        declare(self, NodeConfig)
        declare(self, SafetyConfig, "safety.")
        for prefix, config in CONFIGS.items():
            declare(self, config, f"{prefix}.")
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._pilot: Pilot | None = None
        self._adapter: Adapter | None = None
        self._active = False
        self._waiting = False
        self._operator = Reaction.NONE
        self._heartbeat: float | None = None
        self._rivals = 0
        self._output: Output | None = None
        self._said: dict[str, float] = {}
        self._applied: dict[str, Reason] = {}
        self._worst_s = 0.0
        self._cycles = 0
        self._last = 0.0
        self._diagnostics: Publisher | None = None
        self._own_timers: list[Timer] = []
        self._own_services: list[Service] = []
        self._autostart = None
        if self.get_parameter("autostart").value:
            self._autostart = self.create_timer(0.02, self._on_autostart)

    # Transitions

    @_told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, test and check everything that can be checked before the robot moves."""
        begun = time.perf_counter()
        try:
            self._configure()
        except AlulaError as e:
            self._clean()
            self.get_logger().error(f"not configured: {e}")
            return TransitionCallbackReturn.FAILURE
        assert self._pilot is not None
        runner = self._pilot.runner
        self.get_logger().info(
            f"configured in {time.perf_counter() - begun:.2f} s: {self._config.policy} for "
            f"{self._pilot.robot.name} at {1.0 / runner.control_dt:g} Hz, self-test within "
            f"{runner.self_test_difference:.1e}"
        )
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take command, unless a measurement is missing or another node commands the robot."""
        obstacle = self._obstacle()
        if obstacle:
            self.get_logger().error(f"not activated: {obstacle}")
            return TransitionCallbackReturn.FAILURE
        assert self._pilot is not None
        assert self._adapter is not None
        self._operator, self._output, self._said = Reaction.NONE, None, {}
        self._applied = {}
        self._worst_s, self._cycles = 0.0, 0
        self._pilot.start()
        self._adapter.start(self._now())
        self._last = time.monotonic()
        self._active = True
        gc.disable()
        self._waiting = not self._adapter.engaged
        self.get_logger().info(f"active: {WAITS if self._waiting else COMMANDS}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall silent: the robot's own time-out or the autopilot takes over. To land first, call ~/land."""
        self.silence("deactivated")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget policy and robot."""
        self._clean()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall silent for good."""
        self.silence("shut down")
        self._clean()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """An error of ours: fall silent, back to unconfigured."""
        self.silence("error")
        self._clean()
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        self._config = config = read(self, NodeConfig)
        if not config.policy:
            raise AlulaError("parameter policy is empty; allowed: a policy file")
        robot = (load_arm if config.adapter == "ros2_control" else load_robot)(config.robot)
        policy = load_policy(config.policy, robot=robot)
        runner = PolicyRunner(policy, robot, engine=config.engine, lost_steps=config.lost_steps)
        safety = Safety(self._safety_config(robot), runner.low, runner.high)
        self._pilot = Pilot(runner, safety, robot)
        self._period = runner.control_dt
        timing = Timing(now=self._now, arrival=config.stamps == "arrival")
        self._adapter = make_adapter(self, config, runner, robot, timing, self._on_state)
        self._required = required(config.adapter, runner.outside)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._subscription = self.create_subscription(Empty, "heartbeat", self._on_heartbeat, 1)
        requests = {"hold": Reaction.HOLD, "land": Reaction.LAND, "release": Reaction.RELEASE, "stop": Reaction.STOP}  # fmt: skip
        self._own_services = [
            self.create_service(Trigger, f"~/{name}", self._request(reaction))
            for name, reaction in requests.items()
        ]
        self._own_timers = [
            self.create_timer(SILENT * self._period, self._on_silence),
            self.create_timer(config.diagnostics_period, self._report),
        ]
        # A collection of everything that was loaded takes longer than a cycle: never again look at it.
        gc.collect()
        gc.freeze()

    def _safety_config(self, robot: Multirotor | Arm) -> SafetyConfig:
        known = of_arm(robot) if isinstance(robot, Arm) else {}
        config = read(self, SafetyConfig, "safety.", known)
        if isinstance(robot, Arm) and config.joint_names != robot.joint_names:
            raise AlulaError(
                f"safety.joint_names are {', '.join(config.joint_names)}; "
                f"allowed: empty, or those of the robot file: {', '.join(robot.joint_names)}"
            )
        return config

    def _clean(self) -> None:
        self._active = False
        if self._adapter is not None:
            self._adapter.close()
        self._adapter = self._pilot = None
        for timer in self._own_timers:
            self.destroy_timer(timer)
        for service in self._own_services:
            self.destroy_service(service)
        self._own_timers, self._own_services = [], []
        if self._diagnostics is not None:
            self.destroy_publisher(self._diagnostics)
            self.destroy_subscription(self._subscription)
            self._diagnostics = None

    def _obstacle(self) -> str:
        """Why the policy cannot take over now; empty where it can."""
        if self._adapter is None:
            return "not configured"
        now = self._now()
        # What is latched is of now, here as in a cycle.
        self._adapter.reference(now)
        samples = self._adapter.samples
        for name in self._required:
            if name not in samples:
                return f"no {name} has come"
            age = now - samples[name].stamp
            if not abs(age) <= self._config.fresh:
                return f"{name} is {age:.3f} s old; allowed: up to {self._config.fresh:g} s"
            if not np.isfinite(samples[name].value).all():
                return f"{name} is {samples[name].value.tolist()}; allowed: finite numbers"
        rivals = self._adapter.rivals()
        return f"{rivals} other publishers send commands; allowed: none" if rivals else ""

    # The loop

    def _now(self) -> float:
        return 1e-9 * self.get_clock().now().nanoseconds

    def _on_state(self) -> None:
        if self._active:
            self._cycle()
            # After the command is out, since it need not wait for this.
            self._own_timers[0].timer_period_ns = int(1e9 * SILENT * self._period)
            self._own_timers[0].reset()

    def _on_silence(self) -> None:
        if self._active:
            self._own_timers[0].timer_period_ns = int(1e9 * self._period)
            self._cycle()

    def _cycle(self) -> None:
        assert self._adapter is not None
        assert self._pilot is not None
        begun = time.monotonic()
        late = max(0.0, begun - self._last - self._period)
        self._last = begun
        adapter, now = self._adapter, self._now()
        around = Around(
            heartbeat_stamp=self._heartbeat if self._config.heartbeat else now,
            battery=adapter.battery,
            lateness=late,
            landed=adapter.landed,
            operator=self._operator,
        )
        waiting = self._waits(now)
        output = self._pilot.cycle(now, adapter.samples, adapter.reference(now), around)
        if waiting:
            # A robot that the policy could not fly is not offered to it.
            if output.decision.state is State.POLICY:
                adapter.beat(now)
        elif output.silent:
            if output.decision.changed:
                adapter.release()
        elif output.decision.state is State.STOP:
            adapter.stop()
        else:
            if output.command is not None:
                adapter.send(output.command, now)
            adapter.beat(now)
        self._output = output
        self._cycles += 1
        self._worst_s = max(self._worst_s, time.monotonic() - begun)
        if output.decision.changed or output.decision.reasons:
            self._tell(output, begun)

    def _waits(self, now: float) -> bool:
        """Whether the robot listens to somebody else; until it listens to us, every cycle is the first one.

        What was given up stays so, whoever flies then.
        """
        assert self._adapter is not None
        assert self._pilot is not None
        given_up = not self._waiting and self._pilot.safety.state >= State.RELEASE
        waiting = not self._adapter.engaged and not given_up
        if waiting or self._waiting:
            self._pilot.start()
            self._adapter.start(now)
        if waiting != self._waiting:
            self.get_logger().info(WAITS if waiting else COMMANDS)
        self._waiting = waiting
        return waiting

    def _tell(self, output: Output, clock: float) -> None:
        """Log a change of state at once, and each check that begins to apply at most once in QUIET seconds."""
        decision, said = output.decision, self._said
        # Many apply for one cycle only, which a report every now and then would not meet.
        self._applied |= {r.code: r for r in decision.reasons}
        codes = [r.code for r in decision.reasons if clock - said.get(r.code, -QUIET) >= QUIET]
        # One call each: a logger refuses to change the severity of a line of code.
        if decision.changed and not self._waiting:
            self.get_logger().error(decision.text)
            self._report()
        elif codes:
            self.get_logger().warning(decision.text)
        else:
            return
        for reason in decision.reasons:
            said[reason.code] = clock

    def silence(self, why: str) -> None:
        """Send nothing from now on, and say so."""
        if self._active and self._adapter is not None:
            self._active = False
            self._adapter.release()
            self.get_logger().warning(f"{why}: nothing more is sent")
        gc.enable()

    # What others ask and hear

    def _on_heartbeat(self, _: Empty) -> None:
        self._heartbeat = self._now()

    def _request(self, reaction: Reaction) -> Callable:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            # A request never takes back a stronger one; activate anew to begin anew.
            self._operator = max(self._operator, reaction)
            response.success = self._active
            response.message = self._operator.name.lower() if self._active else "not active"
            return response

        return answer

    def _report(self) -> None:
        if self._adapter is None or self._pilot is None or self._diagnostics is None:
            return
        rivals = self._adapter.rivals()
        if rivals > self._rivals:
            self.get_logger().error(f"{rivals} other publishers send commands to the robot")
        self._rivals = rivals
        reasons = sorted(self._applied.values(), key=lambda r: -r.reaction)
        self._applied = {}
        text = summary(self._active, self._output, reasons, rivals)
        message = diagnostic_message(
            stamp=self.get_clock().now().to_msg(),
            name=self.get_name(),
            hardware=self._pilot.robot.name,
            text=f"waiting: {text}" if self._active and self._waiting else text,
            output=self._output if self._active else None,
            reasons=reasons,
            rivals=rivals,
            numbers={
                **vars(self._pilot.runner.counters),
                "cycles": self._cycles,
                "refused": self._adapter.refused,
                "worst_cycle_ms": round(1e3 * self._worst_s, 3),
            },
        )
        self._diagnostics.publish(message)

    def _on_autostart(self) -> None:
        assert self._autostart is not None
        if self._pilot is None:
            if self.trigger_configure() != TransitionCallbackReturn.SUCCESS:
                # What was wrong has been said; a later try would find the same.
                self._autostart.cancel()
        elif obstacle := self._obstacle():
            self.get_logger().info(f"waiting: {obstacle}", throttle_duration_sec=2.0)
        else:
            self._autostart.cancel()
            self.trigger_activate()

    @property
    def look(self) -> float:
        """How often to look for messages while none comes [s]; a node that is not active may sleep longer."""
        return self._config.look if self._active else LOOK

    def _on_set_parameters(self, parameters: list) -> SetParametersResult:
        fixed = self._pilot is not None and any(p.name != "use_sim_time" for p in parameters)
        reason = "parameters are read at configure; allowed: changes while unconfigured"
        return SetParametersResult(successful=not fixed, reason=reason if fixed else "")


def main() -> None:
    """Entry point of `ros2 run alula policy_node`."""
    run(PolicyNode, lambda node: node.silence("stopped by a signal"), lambda node: node.look)


if __name__ == "__main__":
    main()
