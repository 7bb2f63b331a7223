/* The exported module with a test's hands on its clock, messages and parameters. Compiled with the module's
 * own source files; every function is called from Python. */
#include "alula_module.cpp"

extern "C" {

void px4_clock(uint64_t now_us) { clock_us = now_us; }

int px4_command(const char *word)
{
    char name[] = "alula", argument[16] = {};
    strncpy(argument, word, sizeof argument - 1);
    char *argv[] = {name, argument, nullptr};
    return alula_main(2, argv);
}

int px4_run()
{
    if (px4::the_item != nullptr) {
        px4::the_item->run_once();
    }
    return px4::the_item != nullptr;
}

/* Delay of the last scheduling since this was last asked; 0 is none. */
uint32_t px4_scheduled()
{
    const uint32_t delay_us = px4::scheduled_us;
    px4::scheduled_us = 0;
    return delay_us;
}

int px4_parameter(const char *name, double value)
{
    for (int i = 0; i < static_cast<int>(px4::params::COUNT); i++) {
        if (strcmp(PARAMETER_NAMES[i], name) == 0) {
            parameter_values[i] = value;
            orb_parameter_update.generation++;
            return 1;
        }
    }
    return 0;
}

const char *px4_said()
{
    static std::string text;
    text = said;
    said.clear();
    return text.c_str();
}

void px4_rates(uint64_t sample_us, const float *xyz)
{
    vehicle_angular_velocity_s m{};
    m.timestamp = clock_us;
    m.timestamp_sample = sample_us;
    memcpy(m.xyz, xyz, sizeof m.xyz);
    uORB::Publication<vehicle_angular_velocity_s>(ORB_ID(vehicle_angular_velocity)).publish(m);
}

void px4_attitude(uint64_t sample_us, const float *q, int resets)
{
    vehicle_attitude_s m{};
    m.timestamp = clock_us;
    m.timestamp_sample = sample_us;
    memcpy(m.q, q, sizeof m.q);
    m.quat_reset_counter = static_cast<uint8_t>(resets);
    uORB::Publication<vehicle_attitude_s>(ORB_ID(vehicle_attitude)).publish(m);
}

void px4_position(uint64_t sample_us, const float *position, const float *velocity, int valid, int resets)
{
    vehicle_local_position_s m{};
    m.timestamp = clock_us;
    m.timestamp_sample = sample_us;
    m.xy_valid = m.z_valid = m.v_z_valid = true;
    m.v_xy_valid = valid != 0;
    m.x = position[0];
    m.y = position[1];
    m.z = position[2];
    m.vx = velocity[0];
    m.vy = velocity[1];
    m.vz = velocity[2];
    m.xy_reset_counter = static_cast<uint8_t>(resets);
    uORB::Publication<vehicle_local_position_s>(ORB_ID(vehicle_local_position)).publish(m);
}

void px4_setpoint(uint64_t time_us, const float *position, const float *velocity, const float *acceleration,
                  float yaw)
{
    trajectory_setpoint_s m{};
    m.timestamp = time_us;
    memcpy(m.position, position, sizeof m.position);
    memcpy(m.velocity, velocity, sizeof m.velocity);
    memcpy(m.acceleration, acceleration, sizeof m.acceleration);
    m.yaw = yaw;
    uORB::Publication<trajectory_setpoint_s>(ORB_ID(trajectory_setpoint)).publish(m);
}

void px4_status(int armed, int nav_state)
{
    vehicle_status_s m{};
    m.arming_state = armed ? vehicle_status_s::ARMING_STATE_ARMED : vehicle_status_s::ARMING_STATE_DISARMED;
    m.nav_state = static_cast<uint8_t>(nav_state);
    m.system_id = 7;
    m.component_id = 1;
    uORB::Publication<vehicle_status_s>(ORB_ID(vehicle_status)).publish(m);
}

void px4_allocation(int enabled)
{
    vehicle_control_mode_s m{};
    m.flag_control_allocation_enabled = enabled != 0;
    uORB::Publication<vehicle_control_mode_s>(ORB_ID(vehicle_control_mode)).publish(m);
}

/* Commander's answer to the last registration; returns whether one was asked for. */
int px4_register(int mode_id, int arming_check_id, int success)
{
    register_ext_component_request_s request{};
    memcpy(&request, orb_register_ext_component_request.message, sizeof request);
    register_ext_component_reply_s m{};
    m.request_id = request.request_id;
    m.success = success != 0;
    m.mode_id = static_cast<int8_t>(mode_id);
    m.arming_check_id = static_cast<int8_t>(arming_check_id);
    uORB::Publication<register_ext_component_reply_s>(ORB_ID(register_ext_component_reply)).publish(m);
    return request.register_mode && request.register_arming_check && strcmp(request.name, "Alula") == 0;
}

int px4_registrations() { return static_cast<int>(orb_register_ext_component_request.generation); }
int px4_unregistrations() { return static_cast<int>(orb_unregister_ext_component.generation); }

/* Ask as Commander does: 1 may run, 0 may not, -1 no answer or not the one to this question. */
int px4_arming_check(int request_id)
{
    arming_check_request_s m{};
    m.request_id = static_cast<uint8_t>(request_id);
    uORB::Publication<arming_check_request_s>(ORB_ID(arming_check_request)).publish(m);
    const uint32_t before = orb_arming_check_reply.generation;
    px4_run();
    arming_check_reply_s reply{};
    memcpy(&reply, orb_arming_check_reply.message, sizeof reply);
    if (orb_arming_check_reply.generation != before + 1u || reply.request_id != request_id
        || !reply.mode_req_prevent_arming || !reply.mode_req_local_position) {
        return -1;
    }
    return reply.can_arm_and_run;
}

/* Motors of the last message; returns how many messages there have been. */
int px4_motors(float *control)
{
    actuator_motors_s m{};
    memcpy(&m, orb_actuator_motors.message, sizeof m);
    memcpy(control, m.control, sizeof m.control);
    return static_cast<int>(orb_actuator_motors.generation);
}

/* Mode of the last command to change it, -1 for none; returns how many there have been. */
int px4_mode_command(float *mode)
{
    vehicle_command_s m{};
    memcpy(&m, orb_vehicle_command.message, sizeof m);
    const bool is_mode = m.command == vehicle_command_s::VEHICLE_CMD_SET_NAV_STATE && m.target_system == 7;
    *mode = is_mode ? m.param1 : -1.0f;
    return static_cast<int>(orb_vehicle_command.generation);
}

/* What was last asked of PX4's controllers: 1 let go, 0 take over, -1 neither. */
int px4_controllers(int mode_id)
{
#if ALULA_SETPOINT_CONFIG
    setpoint_config_s m{};
    memcpy(&m, orb_setpoint_config.message, sizeof m);
    if (orb_setpoint_config.generation == 0u || !m.should_apply || m.source_id != mode_id) {
        return -1;
    }
    return m.type == setpoint_config_s::TYPE_DIRECT_ACTUATORS
               ? 1
               : (m.type == setpoint_config_s::TYPE_TRAJECTORY ? 0 : -1);
#else
    vehicle_control_mode_s m{};
    memcpy(&m, orb_config_control_setpoints.message, sizeof m);
    if (orb_config_control_setpoints.generation == 0u || m.source_id != mode_id
        || m.flag_control_allocation_enabled != m.flag_control_rates_enabled
        || m.flag_control_allocation_enabled != m.flag_control_position_enabled) {
        return -1;
    }
    return m.flag_control_allocation_enabled ? 0 : 1;
#endif
}

/* The last entry of the log; returns how many there have been. */
int px4_log(float *data)
{
    debug_array_s m{};
    memcpy(&m, orb_debug_array.message, sizeof m);
    memcpy(data, m.data, sizeof m.data);
    return static_cast<int>(orb_debug_array.generation);
}

/* The conversions alone. */
void convert_vector(float psi, const float *ned, float *world) { alula::world_from_ned(psi, ned, world); }
void convert_body(const float *frd, float *flu) { alula::flu_from_frd(frd, flu); }
void convert_rotation(float psi, const float *q, float *rot) { alula::rot_from_quat(psi, q, rot); }
float convert_yaw(const float *q) { return alula::yaw(q); }
void convert_preview(const float *velocity, const float *acceleration, float *preview)
{
    alula::Sensed sensed{};
    memcpy(sensed.reference_velocity_w, velocity, sizeof sensed.reference_velocity_w);
    memcpy(sensed.reference_acceleration_w, acceleration, sizeof sensed.reference_acceleration_w);
    alula::reference_preview_w(sensed, preview);
}
}
