/* A policy of alula as a flight mode of PX4. Generated: do not edit, export again. README.md says how it
 * behaves; what it decides is in alula_flight.cpp, what it converts in alula_convert.hpp. */
#include "alula_module.hpp"

#include <cinttypes>
#include <cstring>

static constexpr char MODE_NAME[] = "Alula";
static constexpr uint32_t BACKUP_US = 20000;          /* runs at least this often, without a gyroscope too */
static constexpr uint64_t REGISTRATION_US = 1000000;  /* between two attempts to register the mode */
static constexpr uint64_t LOG_US = 100000;            /* between two entries of the log */
static constexpr float RAD_PER_DEG = 0.01745329252f;

#if ALULA_MODULE_DESCRIPTOR
ModuleBase::Descriptor AlulaModule::desc{task_spawn, custom_command, print_usage};
#endif

/* Newer PX4 lets a mode say that it takes setpoints from outside; older has no such field. */
template <typename Request>
static auto request_setpoints(Request &request, int) -> decltype(request.request_offboard_setpoints, void())
{
    request.request_offboard_setpoints = true;
}

template <typename Request>
static void request_setpoints(Request &, long)
{
}

template <typename Message>
static void name(Message &message)
{
    strncpy(message.name, MODE_NAME, sizeof message.name - 1);
}

AlulaModule::AlulaModule()
    : ModuleParams(nullptr), ScheduledWorkItem(MODULE_NAME, px4::wq_configurations::rate_ctrl)
{
    _in.setpoint_yaw = NAN;
}

bool AlulaModule::init()
{
    read_limits();
    if (!_flight.self_test()) {
        PX4_ERR("self-test: difference %.3g, allowed %.3g", (double)_flight.self_test_difference(),
                (double)POLICY_GOLDEN_TOLERANCE);
        return false;
    }
    if (!(fabsf(_in.thrust_model) < 1e-6f)) {
        PX4_ERR("THR_MDL_FAC is %.2f; the policy needs 0", (double)_in.thrust_model);
    }
    if (!_rates_sub.registerCallback()) {
        PX4_ERR("no callback for the body rates");
        return false;
    }
    ScheduleDelayed(BACKUP_US);
    return true;
}

void AlulaModule::read_limits()
{
    alula::Limits limits;
    limits.rates_us = 1000u * static_cast<uint32_t>(_param_age_rates.get());
    limits.attitude_us = 1000u * static_cast<uint32_t>(_param_age_attitude.get());
    limits.position_us = 1000u * static_cast<uint32_t>(_param_age_position.get());
    limits.setpoint_us = 1000u * static_cast<uint32_t>(_param_age_setpoint.get());
    limits.held_us = 1000u * static_cast<uint32_t>(_param_held.get());
    limits.tilt = RAD_PER_DEG * _param_tilt.get();
    limits.heading = RAD_PER_DEG * _param_heading.get();
    limits.distance = _param_distance.get();
    limits.fence_xy = _param_fence_xy.get();
    limits.fence_z = _param_fence_z.get();
    limits.speed = _param_speed.get();
    limits.body_rate = RAD_PER_DEG * _param_body_rate.get();
    limits.turn = RAD_PER_DEG * _param_turn.get();
    _flight.set_limits(limits);
    _in.thrust_model = _param_thrust_model.get();
}

void AlulaModule::Run()
{
    if (should_exit()) {
        stop();
        return;
    }
    ScheduleDelayed(BACKUP_US);
    if (_parameter_sub.updated()) {
        parameter_update_s update;
        _parameter_sub.copy(&update);
        updateParams();
        read_limits();
    }
    register_mode();
    read_messages();
    _in.now_us = hrt_absolute_time();
    const alula::Decision decision = _flight.update(_in);
    if (decision.write) {
        write_motors(decision);
    }
    ask(decision.ask);
    reply_to_arming_check();
    const bool is_change = _flight.phase() != _phase;
    if (is_change && _flight.phase() == alula::Phase::TRIPPED) {
        PX4_ERR("handing back: %s", alula::reason_text(_flight.reason()));
    }
    _phase = _flight.phase();
    log(is_change);
}

void AlulaModule::read_messages()
{
    vehicle_angular_velocity_s rates;
    if (_rates_sub.update(&rates)) {
        _in.rates_us = rates.timestamp_sample;
        memcpy(_in.rates_frd, rates.xyz, sizeof _in.rates_frd);
    }
    vehicle_attitude_s attitude;
    if (_attitude_sub.update(&attitude)) {
        _in.attitude_us = attitude.timestamp_sample;
        memcpy(_in.q, attitude.q, sizeof _in.q);
        _in.attitude_resets = attitude.quat_reset_counter;
    }
    vehicle_local_position_s p;
    if (_position_sub.update(&p)) {
        const float position[3] = {p.x, p.y, p.z}, velocity[3] = {p.vx, p.vy, p.vz};
        _in.position_us = p.timestamp_sample;
        memcpy(_in.position_ned, position, sizeof position);
        memcpy(_in.velocity_ned, velocity, sizeof velocity);
        _in.position_valid = p.xy_valid && p.z_valid && p.v_xy_valid && p.v_z_valid;
        _in.position_resets = 256u * p.xy_reset_counter + p.z_reset_counter;
    }
    trajectory_setpoint_s setpoint;
    if (_setpoint_sub.update(&setpoint)) {
        _in.setpoint_us = setpoint.timestamp;
        memcpy(_in.setpoint_position_ned, setpoint.position, sizeof setpoint.position);
        memcpy(_in.setpoint_velocity_ned, setpoint.velocity, sizeof setpoint.velocity);
        memcpy(_in.setpoint_acceleration_ned, setpoint.acceleration, sizeof setpoint.acceleration);
        _in.setpoint_yaw = setpoint.yaw;
    }
    if (_status_sub.update(&_vehicle_status)) {
        _in.armed = _vehicle_status.arming_state == vehicle_status_s::ARMING_STATE_ARMED;
    }
    _in.selected = _mode_id >= 0 && _vehicle_status.nav_state == _mode_id;
    vehicle_control_mode_s control_mode;
    if (_control_mode_sub.update(&control_mode)) {
        _in.motors_free = !control_mode.flag_control_allocation_enabled;
    }
}

/* Commander takes registrations while disarmed; a request that it refused or missed is repeated. */
void AlulaModule::register_mode()
{
    register_ext_component_reply_s reply;
    while (_mode_id < 0 && _registration_sub.update(&reply)) {
        if (reply.request_id == _request_id && reply.success) {
            _mode_id = reply.mode_id;
            _arming_check_id = reply.arming_check_id;
            PX4_INFO("mode %s is nav_state %d", MODE_NAME, _mode_id);
        }
    }
    const uint64_t now_us = hrt_absolute_time();
    if (_mode_id >= 0 || (_registration_us != 0u && now_us - _registration_us < REGISTRATION_US)) {
        return;
    }
    _registration_us = now_us;
    _request_id = now_us;
    register_ext_component_request_s request{};
    request.timestamp = now_us;
    request.request_id = _request_id;
    name(request);
    request.px4_ros2_api_version = register_ext_component_request_s::LATEST_PX4_ROS2_API_VERSION;
    request.register_arming_check = true;
    request.register_mode = true;
    request_setpoints(request, 0);
    _register_pub.publish(request);
}

void AlulaModule::unregister_mode()
{
    if (_mode_id < 0) {
        return;
    }
    unregister_ext_component_s message{};
    message.timestamp = hrt_absolute_time();
    name(message);
    message.arming_check_id = static_cast<int8_t>(_arming_check_id);
    message.mode_id = static_cast<int8_t>(_mode_id);
    message.mode_executor_id = -1;
    _unregister_pub.publish(message);
}

/* Commander asks every 300 ms. A mode that may not run cannot be selected, and its failsafe ends a flight. */
void AlulaModule::reply_to_arming_check()
{
    arming_check_request_s request;
    if (_mode_id < 0 || !_arming_check_sub.update(&request)) {
        return;
    }
    arming_check_reply_s reply{};
    reply.timestamp = hrt_absolute_time();
    reply.request_id = request.request_id;
    reply.registration_id = static_cast<uint8_t>(_arming_check_id);
    reply.health_component_index = arming_check_reply_s::HEALTH_COMPONENT_INDEX_NONE;
    reply.can_arm_and_run = _flight.can_run();
    reply.mode_req_angular_velocity = true;
    reply.mode_req_attitude = true;
    reply.mode_req_local_alt = true;
    reply.mode_req_local_position = true;
    /* The policy knows no ground: PX4 takes off and lands. */
    reply.mode_req_prevent_arming = true;
    _arming_check_pub.publish(reply);
}

void AlulaModule::ask(alula::Ask what)
{
    if (what == alula::Ask::CLAIM) {
        configure(true);
    } else if (what == alula::Ask::HAND_BACK) {
        configure(false);
        command_exit();
    }
}

/* Direct: no controller of PX4 runs, and nobody but this module writes the motors. Otherwise all of them run
 * on the trajectory setpoint, and where there is none PX4's position controller stops the vehicle. */
void AlulaModule::configure(bool direct)
{
#if ALULA_SETPOINT_CONFIG
    setpoint_config_s config{};
    config.type = direct ? setpoint_config_s::TYPE_DIRECT_ACTUATORS : setpoint_config_s::TYPE_TRAJECTORY;
    config.should_apply = true;
#else
    vehicle_control_mode_s config{};
    config.flag_control_position_enabled = !direct;
    config.flag_control_velocity_enabled = !direct;
    config.flag_control_altitude_enabled = !direct;
    config.flag_control_climb_rate_enabled = !direct;
    config.flag_control_attitude_enabled = !direct;
    config.flag_control_rates_enabled = !direct;
    config.flag_control_allocation_enabled = !direct;
#endif
    config.source_id = static_cast<uint8_t>(_mode_id);
    config.timestamp = hrt_absolute_time();
    _config_pub.publish(config);
}

void AlulaModule::command_exit()
{
    vehicle_command_s command{};
    command.command = vehicle_command_s::VEHICLE_CMD_SET_NAV_STATE;
    command.param1 = static_cast<float>(_param_exit.get());
    command.target_system = _vehicle_status.system_id;
    command.target_component = _vehicle_status.component_id;
    command.source_system = _vehicle_status.system_id;
    command.source_component = _vehicle_status.component_id;
    command.timestamp = hrt_absolute_time();
    _command_pub.publish(command);
}

void AlulaModule::write_motors(const alula::Decision &decision)
{
    static_assert(actuator_motors_s::NUM_CONTROLS == alula::MOTORS, "another number of motors");
    actuator_motors_s motors{};
    memcpy(motors.control, decision.control, sizeof motors.control);
    motors.timestamp_sample = _in.rates_us;
    motors.timestamp = hrt_absolute_time();
    _motors_pub.publish(motors);
}

/* README.md lists the entries. */
void AlulaModule::log(bool at_once)
{
    if (!at_once && _in.now_us - _logged_us < LOG_US) {
        return;
    }
    _logged_us = _in.now_us;
    debug_array_s entry{};
    const policy_counters_t &counters = _flight.counters();
    const float head[] = {
        static_cast<float>(_flight.phase()),
        static_cast<float>(_flight.reason()),
        static_cast<float>(_flight.status()),
        static_cast<float>(_flight.trips()),
        static_cast<float>(counters.steps),
        static_cast<float>(counters.held_in_a_row),
        static_cast<float>(counters.missed),
        static_cast<float>(counters.stale),
        static_cast<float>(counters.not_finite),
        _flight.heading(),
    };
    static_assert(sizeof head + sizeof(float) * (POLICY_NUM_ACTIONS + POLICY_NUM_SUPPLIED)
                      <= sizeof entry.data, "the log entry is too short");
    memcpy(entry.data, head, sizeof head);
    memcpy(entry.data + sizeof head / sizeof(float), _flight.action(), sizeof(float) * POLICY_NUM_ACTIONS);
    memcpy(entry.data + sizeof head / sizeof(float) + POLICY_NUM_ACTIONS, &_flight.observation(),
           sizeof(float) * POLICY_NUM_SUPPLIED); /* its fields come before its time stamps */
    entry.id = 0;
    strncpy(entry.name, "alula", sizeof entry.name - 1);
    entry.timestamp = hrt_absolute_time();
    _debug_pub.publish(entry);
}

void AlulaModule::stop()
{
    _rates_sub.unregisterCallback();
    ScheduleClear();
    if (_in.selected) {
        ask(alula::Ask::HAND_BACK);
    }
    unregister_mode();
#if ALULA_MODULE_DESCRIPTOR
    exit_and_cleanup(desc);
#else
    exit_and_cleanup();
#endif
}

int AlulaModule::task_spawn(int argc, char *argv[])
{
    (void)argc;
    (void)argv;
    AlulaModule *module = new AlulaModule();
#if ALULA_MODULE_DESCRIPTOR
    auto &object = desc.object;
    int &task_id = desc.task_id;
#else
    auto &object = _object;
    int &task_id = _task_id;
#endif
    object.store(module);
    task_id = task_id_is_work_queue;
    if (module != nullptr && module->init()) {
        return PX4_OK;
    }
    delete module;
    object.store(nullptr);
    task_id = -1;
    return PX4_ERROR;
}

int AlulaModule::custom_command(int argc, char *argv[])
{
    (void)argc;
    (void)argv;
    return print_usage("unknown command");
}

int AlulaModule::print_usage(const char *reason)
{
    if (reason != nullptr) {
        PX4_WARN("%s", reason);
    }
    PRINT_MODULE_DESCRIPTION("### Description\nFlies a policy for " POLICY_ROBOT ", trained with alula, as a "
                             "flight mode of its own: from the state estimate to the motors.\n");
    PRINT_MODULE_USAGE_NAME("alula", "controller");
    PRINT_MODULE_USAGE_COMMAND("start");
    PRINT_MODULE_USAGE_DEFAULT_COMMANDS();
    return 0;
}

int AlulaModule::print_status()
{
    static const char *const PHASES[] = {"idle", "claiming the motors", "flying", "tripped"};
    const policy_counters_t &counters = _flight.counters();
    PX4_INFO("policy %.16s for %s, self-test difference %.2g", POLICY_SHA256, POLICY_ROBOT,
             (double)_flight.self_test_difference());
    PX4_INFO("mode %d, %s, reason: %s", _mode_id, PHASES[static_cast<int>(_flight.phase())],
             alula::reason_text(_flight.reason()));
    PX4_INFO("steps %" PRIu32 ", missed %" PRIu32 ", restarted %" PRIu32 ", clipped %" PRIu32
             ", saturated %" PRIu32 ", not finite %" PRIu32 ", stale %" PRIu32 ", damaged %" PRIu32,
             counters.steps, counters.missed, counters.restarted, counters.clipped, counters.saturated,
             counters.not_finite, counters.stale, counters.damaged);
    for (int i = 0; i < alula::REASONS; i++) {
        const alula::Reason reason = static_cast<alula::Reason>(i);
        if (_flight.trips(reason) != 0u) {
            PX4_INFO("trips, %s: %" PRIu32, alula::reason_text(reason), _flight.trips(reason));
        }
    }
    return 0;
}

extern "C" __EXPORT int alula_main(int argc, char *argv[])
{
#if ALULA_MODULE_DESCRIPTOR
    return ModuleBase::main(AlulaModule::desc, argc, argv);
#else
    return AlulaModule::main(argc, argv);
#endif
}
