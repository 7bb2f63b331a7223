/* When the policy flies, on what, and when it stops. Plain C++14: no PX4 in here, so that it is tested on any
 * computer; alula_module.cpp carries uORB messages in and out. */
#pragma once

#include <cstdint>

#include "alula_convert.hpp"
#include "policy.h"

namespace alula
{

static constexpr int MOTORS = 12; /* entries of actuator_motors.control */

enum class Phase : uint8_t {
    IDLE,     /* the mode is not selected, or disarmed: PX4 flies */
    CLAIMING, /* selected; waiting until PX4's control allocation has let go of the motors */
    FLYING,   /* the policy commands the motors */
    TRIPPED   /* selected, but the policy was taken off: the motors are PX4's */
};

/* Why the policy does not fly, or was taken off. The numbers are logged; README.md lists them. */
enum class Reason : uint8_t {
    NONE = 0,
    SELF_TEST = 1,        /* the golden sequences were not reproduced */
    THRUST_MODEL = 2,     /* THR_MDL_FAC is not 0 */
    STALE = 3,            /* a sample is older than its limit, or there is none (on entry only) */
    POSITION_INVALID = 4, /* the estimator says that position or velocity is not valid */
    NOT_FINITE = 5,       /* NaN or infinity in a sample (on entry only: in flight it is HELD) */
    TILT = 6,
    DISTANCE = 7, /* from the reference */
    FENCE = 8,    /* from where the mode was entered */
    SPEED = 9,
    BODY_RATE = 10,
    HELD = 11,     /* no valid observation for too long: stale or NaN */
    DAMAGED = 12,  /* the policy's own memory holds impossible numbers */
    NO_MOTORS = 13, /* PX4's control allocation did not let go of the motors */
    HEADING = 14    /* from the policy's heading zero */
};
static constexpr int REASONS = 15;

const char *reason_text(Reason reason);

/* A limit that is NaN trips. */
struct Limits {
    uint32_t rates_us{10000};     /* largest age of the body rates [us] */
    uint32_t attitude_us{50000};  /* of the attitude [us] */
    uint32_t position_us{100000}; /* of position and velocity [us] */
    uint32_t setpoint_us{200000}; /* of the setpoint: beyond it, position is held [us] */
    uint32_t held_us{50000};      /* longest time without a valid observation [us] */
    float tilt{1.0472f};          /* [rad] */
    float heading{1.0472f};       /* angle between nose and the policy's x axis [rad] */
    float distance{2.0f};         /* from the reference [m] */
    float fence_xy{5.0f};         /* from the entry, horizontally [m] */
    float fence_z{3.0f};          /* and vertically [m] */
    float speed{5.0f};            /* [m/s] */
    float body_rate{17.453f};     /* [rad/s] */
    float turn{0.5236f};          /* fastest turn of the policy's heading to a new yaw setpoint [rad/s] */
};

/* What PX4 knows, in its own frames and units, each with the time at which it was measured; 0 is never. */
struct Inputs {
    uint64_t now_us;
    uint64_t rates_us;
    float rates_frd[3]; /* [rad/s] */
    uint64_t attitude_us;
    float q[4]; /* w, x, y, z; FRD to NED */
    uint64_t position_us;
    float position_ned[3]; /* [m] */
    float velocity_ned[3]; /* [m/s] */
    bool position_valid;
    uint32_t position_resets; /* any change: the estimate of the position has jumped */
    uint32_t attitude_resets; /* any change: the estimate of the attitude has jumped */
    uint64_t setpoint_us;     /* of the setpoint, which may hold NaN for "no wish" */
    float setpoint_position_ned[3];
    float setpoint_velocity_ned[3];
    float setpoint_acceleration_ned[3];
    float setpoint_yaw;      /* [rad] */
    float thrust_model;      /* THR_MDL_FAC */
    bool armed;
    bool selected;   /* the present mode is this module's */
    bool motors_free; /* PX4's control allocation does not write the motors */
};

/* What PX4 should be asked for. */
enum class Ask : uint8_t {
    NOTHING,
    CLAIM,    /* let go of the motors: this mode writes them */
    HAND_BACK /* take the motors back, and leave this mode */
};

struct Decision {
    Ask ask;
    bool write;            /* publish the motors below */
    float control[MOTORS]; /* in PX4's order: throttle in [0, 1], NaN where there is no rotor */
};

class Flight
{
public:
    /* Replay the golden sequences. Takes their time: before anything runs. */
    bool self_test();
    void set_limits(const Limits &limits);

    /* Every sample of the body rates, and when they stay away. */
    Decision update(const Inputs &in);

    /* Whether the mode may be selected, or go on. */
    bool can_run() const;

    Phase phase() const { return _phase; }
    Reason reason() const { return _reason; }
    uint32_t trips(Reason reason) const { return _trips[static_cast<int>(reason)]; }
    uint32_t trips() const;
    float heading() const { return _heading; }
    float self_test_difference() const { return _difference; }
    policy_status_t status() const { return _status; }
    const policy_counters_t &counters() const { return _policy.counters; }
    const policy_observation_t &observation() const { return _observation; }
    const float *action() const { return _action; }

private:
    void enter(const Inputs &in);
    void claim(const Inputs &in);
    void follow_resets(const Inputs &in);
    bool setpoint_is_fresh(const Inputs &in) const;
    void refer(const Inputs &in);
    void turn(const Inputs &in, bool is_fresh);
    void sense(const Inputs &in);
    void observe(const Inputs &in);
    bool is_finite() const;
    bool is_stale(const Inputs &in) const;
    Reason check_ready(const Inputs &in) const;
    Reason check_flying(const Inputs &in) const;
    Reason check_limits(const Inputs &in) const;
    void trip(Reason reason);
    bool fly(const Inputs &in, Decision &decision);
    bool time_to_ask(uint64_t now_us);

    policy_t _policy{};
    policy_observation_t _observation{};
    float _action[POLICY_NUM_ACTIONS]{};
    policy_status_t _status{0};
    float _difference{NAN};
    bool _is_tested{false};
    Limits _limits{};
    Sensed _sensed{};

    Phase _phase{Phase::IDLE};
    Reason _reason{Reason::NONE};
    bool _locked{false}; /* after a trip, until disarmed */
    uint32_t _trips[REASONS]{};
    uint64_t _entered_us{0};
    uint64_t _free_us{0}; /* when the motors were last free */
    uint64_t _asked_us{0};
    uint64_t _last_us{0};

    float _heading{0.0f}; /* psi [rad] */
    bool _was_fresh{false};
    float _hold_ned[3]{};
    float _fence_ned[3]{};
    float _reference_ned[9]{}; /* position, velocity, acceleration */
    float _last_position_ned[3]{};
    float _last_yaw{0.0f};
    uint32_t _position_resets{0};
    uint32_t _attitude_resets{0};
};

} // namespace alula
