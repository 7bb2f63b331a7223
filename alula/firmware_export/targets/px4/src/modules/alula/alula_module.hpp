/* uORB messages into and out of alula_flight.hpp, as a flight mode of PX4. */
#pragma once

#include <drivers/drv_hrt.h>
#include <px4_platform_common/defines.h>
#include <px4_platform_common/log.h>
#include <px4_platform_common/module.h>
#include <px4_platform_common/module_params.h>
#include <px4_platform_common/px4_work_queue/ScheduledWorkItem.hpp>

#include <uORB/Publication.hpp>
#include <uORB/Subscription.hpp>
#include <uORB/SubscriptionCallback.hpp>
#include <uORB/topics/actuator_motors.h>
#include <uORB/topics/arming_check_reply.h>
#include <uORB/topics/arming_check_request.h>
#include <uORB/topics/debug_array.h>
#include <uORB/topics/parameter_update.h>
#include <uORB/topics/register_ext_component_reply.h>
#include <uORB/topics/register_ext_component_request.h>
#include <uORB/topics/trajectory_setpoint.h>
#include <uORB/topics/unregister_ext_component.h>
#include <uORB/topics/vehicle_angular_velocity.h>
#include <uORB/topics/vehicle_attitude.h>
#include <uORB/topics/vehicle_command.h>
#include <uORB/topics/vehicle_control_mode.h>
#include <uORB/topics/vehicle_local_position.h>
#include <uORB/topics/vehicle_status.h>

/* How a mode says which of PX4's controllers run: newer versions have a message of their own for it. */
#if __has_include(<uORB/topics/setpoint_config.h>)
#include <uORB/topics/setpoint_config.h>
#define ALULA_SETPOINT_CONFIG 1
#else
#define ALULA_SETPOINT_CONFIG 0
#endif

#include "alula_flight.hpp"

class AlulaModule;

/* The base class was a template before it had a descriptor; CMakeLists.txt looks which PX4 this is. */
#if ALULA_MODULE_DESCRIPTOR
using AlulaModuleBase = ModuleBase;
#else
using AlulaModuleBase = ModuleBase<AlulaModule>;
#endif

class AlulaModule : public AlulaModuleBase, public ModuleParams, public px4::ScheduledWorkItem
{
public:
    AlulaModule();

#if ALULA_MODULE_DESCRIPTOR
    static Descriptor desc;
#endif
    static int task_spawn(int argc, char *argv[]);
    static int custom_command(int argc, char *argv[]);
    static int print_usage(const char *reason = nullptr);
    int print_status() override;

    bool init();

private:
    void Run() override;
    void stop();

    void read_limits();
    void read_messages();
    void register_mode();
    void unregister_mode();
    void reply_to_arming_check();
    void ask(alula::Ask what);
    void configure(bool direct);
    void command_exit();
    void write_motors(const alula::Decision &decision);
    void log(bool at_once);

    alula::Flight _flight;
    alula::Inputs _in{};
    vehicle_status_s _vehicle_status{};
    uint64_t _registration_us{0}; /* when the mode was last asked for */
    uint64_t _request_id{0};
    uint64_t _logged_us{0};
    int _mode_id{-1};
    int _arming_check_id{-1};
    alula::Phase _phase{alula::Phase::IDLE};

    uORB::SubscriptionCallbackWorkItem _rates_sub{this, ORB_ID(vehicle_angular_velocity)};
    uORB::Subscription _attitude_sub{ORB_ID(vehicle_attitude)};
    uORB::Subscription _position_sub{ORB_ID(vehicle_local_position)};
    uORB::Subscription _setpoint_sub{ORB_ID(trajectory_setpoint)};
    uORB::Subscription _status_sub{ORB_ID(vehicle_status)};
    uORB::Subscription _control_mode_sub{ORB_ID(vehicle_control_mode)};
    uORB::Subscription _parameter_sub{ORB_ID(parameter_update)};
    uORB::Subscription _registration_sub{ORB_ID(register_ext_component_reply)};
    uORB::Subscription _arming_check_sub{ORB_ID(arming_check_request)};

    uORB::Publication<actuator_motors_s> _motors_pub{ORB_ID(actuator_motors)};
    uORB::Publication<arming_check_reply_s> _arming_check_pub{ORB_ID(arming_check_reply)};
    uORB::Publication<register_ext_component_request_s> _register_pub{ORB_ID(register_ext_component_request)};
    uORB::Publication<unregister_ext_component_s> _unregister_pub{ORB_ID(unregister_ext_component)};
    uORB::Publication<vehicle_command_s> _command_pub{ORB_ID(vehicle_command)};
    uORB::Publication<debug_array_s> _debug_pub{ORB_ID(debug_array)};
#if ALULA_SETPOINT_CONFIG
    uORB::Publication<setpoint_config_s> _config_pub{ORB_ID(setpoint_config)};
#else
    uORB::Publication<vehicle_control_mode_s> _config_pub{ORB_ID(config_control_setpoints)};
#endif

    DEFINE_PARAMETERS(
        (ParamFloat<px4::params::THR_MDL_FAC>) _param_thrust_model,
        (ParamInt<px4::params::ALULA_EXIT>) _param_exit,
        (ParamInt<px4::params::ALULA_AGE_RATE>) _param_age_rates,
        (ParamInt<px4::params::ALULA_AGE_ATT>) _param_age_attitude,
        (ParamInt<px4::params::ALULA_AGE_POS>) _param_age_position,
        (ParamInt<px4::params::ALULA_AGE_SP>) _param_age_setpoint,
        (ParamInt<px4::params::ALULA_HELD_MAX>) _param_held,
        (ParamFloat<px4::params::ALULA_TILT_MAX>) _param_tilt,
        (ParamFloat<px4::params::ALULA_HDG_MAX>) _param_heading,
        (ParamFloat<px4::params::ALULA_DIST_MAX>) _param_distance,
        (ParamFloat<px4::params::ALULA_FENCE_XY>) _param_fence_xy,
        (ParamFloat<px4::params::ALULA_FENCE_Z>) _param_fence_z,
        (ParamFloat<px4::params::ALULA_VEL_MAX>) _param_speed,
        (ParamFloat<px4::params::ALULA_RATE_MAX>) _param_body_rate,
        (ParamFloat<px4::params::ALULA_YAW_RATE>) _param_turn
    )
};
