/* See alula_flight.hpp. Generated for one policy: do not edit, export again. */
#include "alula_flight.hpp"

namespace alula
{

static constexpr uint64_t CLAIM_US = 200000; /* longest wait for the motors */
static constexpr uint64_t ASK_US = 50000;    /* between two askings of the same */

/* Which message each field of the observation comes from. */
enum Source { RATES, ATTITUDE, POSITION, SETPOINT };
static const Source SOURCES[POLICY_NUM_FIELDS] = {@SOURCES@};

/* Motor i of PX4 is action ROTOR_OF_MOTOR[i]: @MOTOR_NAMES@. */
static const int ROTOR_OF_MOTOR[POLICY_NUM_ACTIONS] = {@ROTORS@};

static_assert(POLICY_NUM_ACTIONS <= MOTORS, "more rotors than PX4 has motors");

const char *reason_text(Reason reason)
{
    static const char *const TEXT[REASONS] = {
        "none",  "self-test failed", "THR_MDL_FAC is not 0", "stale sample", "position not valid",
        "not finite", "tilt", "distance from the reference", "fence", "speed", "body rate",
        "observations held too long", "memory damaged", "motors not released", "heading",
    };
    return TEXT[static_cast<int>(reason)];
}

bool Flight::self_test()
{
    _difference = policy_self_test(&_policy);
    _is_tested = _difference <= POLICY_GOLDEN_TOLERANCE; /* false for NaN */
    set_limits(_limits); /* the self-test has put back the library's own */
    return _is_tested;
}

void Flight::set_limits(const Limits &limits)
{
    _limits = limits;
    const uint32_t ages[] = {limits.rates_us, limits.attitude_us, limits.position_us, limits.setpoint_us};
    for (uint32_t i = 0; i < POLICY_NUM_FIELDS; i++) {
        _policy.stale_us[i] = ages[SOURCES[i]];
    }
    _policy.lost_steps = limits.held_us / POLICY_STEP_US;
}

uint32_t Flight::trips() const
{
    uint32_t sum = 0;
    for (uint32_t count : _trips) {
        sum += count;
    }
    return sum;
}

bool Flight::can_run() const
{
    return _phase == Phase::IDLE ? _reason == Reason::NONE && !_locked : _phase != Phase::TRIPPED;
}

Decision Flight::update(const Inputs &in)
{
    Decision decision{};
    for (float &control : decision.control) {
        control = NAN;
    }
    if (!in.armed) {
        _locked = false;
    }
    follow_resets(in);
    const bool is_on = in.armed && in.selected;
    if (!is_on || _phase == Phase::IDLE) {
        enter(in); /* while it is off, the world is judged as if it was entered now */
    } else {
        refer(in);
    }
    if (!is_on) {
        _phase = Phase::IDLE;
    }
    sense(in);
    if (in.motors_free) {
        _free_us = in.now_us;
    }
    if (_phase == Phase::IDLE && !_locked) {
        _reason = check_ready(in);
    } else if (_phase == Phase::CLAIMING) {
        claim(in);
    }
    if (_phase == Phase::FLYING) {
        decision.write = fly(in, decision);
    }
    if ((_phase == Phase::CLAIMING || _phase == Phase::TRIPPED) && time_to_ask(in.now_us)) {
        decision.ask = _phase == Phase::CLAIMING ? Ask::CLAIM : Ask::HAND_BACK;
    }
    _last_us = in.now_us;
    return decision;
}

void Flight::claim(const Inputs &in)
{
    _reason = check_ready(in);
    if (_reason != Reason::NONE) {
        trip(_reason);
    } else if (in.motors_free) {
        policy_reset(&_policy);
        _phase = Phase::FLYING;
    } else if (in.now_us - _entered_us > CLAIM_US) {
        trip(Reason::NO_MOTORS);
    }
}

bool Flight::time_to_ask(uint64_t now_us)
{
    if (_asked_us != 0u && now_us - _asked_us < ASK_US) {
        return false;
    }
    _asked_us = now_us;
    return true;
}

/* The reference starts where the vehicle is, with the heading that it has. */
void Flight::enter(const Inputs &in)
{
    _phase = _locked ? Phase::TRIPPED : Phase::CLAIMING;
    _entered_us = in.now_us;
    _free_us = in.now_us;
    _asked_us = 0;
    _was_fresh = false;
    _heading = yaw(in.q);
    memcpy(_hold_ned, in.position_ned, sizeof _hold_ned);
    memcpy(_fence_ned, in.position_ned, sizeof _fence_ned);
    memset(_reference_ned, 0, sizeof _reference_ned);
    memcpy(_reference_ned, in.position_ned, sizeof _hold_ned);
}

/* Where the estimate jumps, the vehicle does not: what is tied to it jumps with it. */
void Flight::follow_resets(const Inputs &in)
{
    const float now_yaw = yaw(in.q);
    if (in.position_resets != _position_resets) {
        for (int axis = 0; axis < 3; axis++) {
            const float jump = in.position_ned[axis] - _last_position_ned[axis];
            _hold_ned[axis] += jump;
            _fence_ned[axis] += jump;
        }
    }
    if (in.attitude_resets != _attitude_resets) {
        _heading = wrap(_heading + now_yaw - _last_yaw);
    }
    _position_resets = in.position_resets;
    _attitude_resets = in.attitude_resets;
    memcpy(_last_position_ned, in.position_ned, sizeof _last_position_ned);
    _last_yaw = now_yaw;
}

/* A setpoint from before the entry was meant for another mode. */
bool Flight::setpoint_is_fresh(const Inputs &in) const
{
    const uint64_t age_us = in.now_us > in.setpoint_us ? in.now_us - in.setpoint_us : 0u;
    bool is_wish = false;
    for (float x : in.setpoint_position_ned) {
        is_wish = is_wish || all_finite(&x, 1);
    }
    return in.setpoint_us > _entered_us && age_us <= _limits.setpoint_us && is_wish;
}

/* Position, velocity and acceleration of the reference: axis by axis the setpoint's where it has one. */
void Flight::refer(const Inputs &in)
{
    const bool is_fresh = setpoint_is_fresh(in);
    if (_was_fresh && !is_fresh) {
        memcpy(_hold_ned, in.position_ned, sizeof _hold_ned);
    }
    _was_fresh = is_fresh;
    for (int axis = 0; axis < 3; axis++) {
        const float p = in.setpoint_position_ned[axis];
        const float v = in.setpoint_velocity_ned[axis];
        const float a = in.setpoint_acceleration_ned[axis];
        _reference_ned[axis] = is_fresh && all_finite(&p, 1) ? p : _hold_ned[axis];
        _reference_ned[3 + axis] = is_fresh && all_finite(&v, 1) ? v : 0.0f;
        _reference_ned[6 + axis] = is_fresh && all_finite(&a, 1) ? a : 0.0f;
    }
    turn(in, is_fresh);
}

/* Turn the policy's world towards the yaw setpoint, no faster than the limit: a policy that holds heading
 * zero has not learnt to be far from it. */
void Flight::turn(const Inputs &in, bool is_fresh)
{
    if (!is_fresh || !all_finite(&in.setpoint_yaw, 1)) {
        return;
    }
    const uint64_t passed_us = in.now_us > _last_us ? in.now_us - _last_us : 0u;
    const float step = _limits.turn * 1e-6f * static_cast<float>(passed_us < 100000u ? passed_us : 100000u);
    const float rest = wrap(in.setpoint_yaw - _heading);
    const float by = rest > step ? step : (rest < -step ? -step : rest);
    _heading = wrap(_heading + by);
}

void Flight::sense(const Inputs &in)
{
    world_from_ned(_heading, in.position_ned, _sensed.position_w);
    world_from_ned(_heading, in.velocity_ned, _sensed.velocity_w);
    rot_from_quat(_heading, in.q, _sensed.rot_wb);
    flu_from_frd(in.rates_frd, _sensed.angular_velocity_b);
    world_from_ned(_heading, _reference_ned, _sensed.reference_position_w);
    world_from_ned(_heading, _reference_ned + 3, _sensed.reference_velocity_w);
    world_from_ned(_heading, _reference_ned + 6, _sensed.reference_acceleration_w);
}

/* What the policy sees, entry by entry of its contract. */
void Flight::observe(const Inputs &in)
{
    const uint64_t times[] = {in.rates_us, in.attitude_us, in.position_us, in.now_us};
    for (uint32_t i = 0; i < POLICY_NUM_FIELDS; i++) {
        _observation.time_us[i] = times[SOURCES[i]];
    }
@OBSERVE@
}

bool Flight::is_finite() const
{
    return all_finite(_sensed.position_w, 3) && all_finite(_sensed.rot_wb, 9)
           && all_finite(_sensed.velocity_w, 3) && all_finite(_sensed.angular_velocity_b, 3)
           && all_finite(_sensed.reference_position_w, 3);
}

bool Flight::is_stale(const Inputs &in) const
{
    const uint64_t times[] = {in.rates_us, in.attitude_us, in.position_us};
    const uint32_t ages[] = {_limits.rates_us, _limits.attitude_us, _limits.position_us};
    for (int i = 0; i < 3; i++) {
        if (times[i] == 0u || times[i] > in.now_us || in.now_us - times[i] > ages[i]) {
            return true;
        }
    }
    return false;
}

/* The first thing that speaks against taking over. */
Reason Flight::check_ready(const Inputs &in) const
{
    if (!_is_tested) {
        return Reason::SELF_TEST;
    }
    if (is_stale(in)) {
        return Reason::STALE;
    }
    if (!is_finite()) {
        return Reason::NOT_FINITE;
    }
    return check_limits(in);
}

/* The first thing that speaks against going on. NaN and stale samples are held by the library for a while;
 * meanwhile the limits cannot be judged. */
Reason Flight::check_flying(const Inputs &in) const
{
    if ((_status & POLICY_DAMAGED) != 0u) {
        return Reason::DAMAGED;
    }
    if ((_status & POLICY_LOST) != 0u) {
        return Reason::HELD;
    }
    if (!in.motors_free && in.now_us - _free_us > CLAIM_US) {
        return Reason::NO_MOTORS;
    }
    return is_finite() ? check_limits(in) : Reason::NONE;
}

Reason Flight::check_limits(const Inputs &in) const
{
    float error[3], way[3];
    difference(_sensed.position_w, _sensed.reference_position_w, error);
    difference(in.position_ned, _fence_ned, way);
    if (!(fabsf(in.thrust_model) < 1e-6f)) {
        return Reason::THRUST_MODEL;
    }
    if (!in.position_valid) {
        return Reason::POSITION_INVALID;
    }
    if (!(_sensed.rot_wb[8] >= cosf(_limits.tilt))) { /* cosine of the tilt */
        return Reason::TILT;
    }
    if (!(fabsf(atan2f(_sensed.rot_wb[3], _sensed.rot_wb[0])) <= _limits.heading)) {
        return Reason::HEADING;
    }
    if (!(norm(error) <= _limits.distance)) {
        return Reason::DISTANCE;
    }
    if (!(sqrtf(way[0] * way[0] + way[1] * way[1]) <= _limits.fence_xy && fabsf(way[2]) <= _limits.fence_z)) {
        return Reason::FENCE;
    }
    if (!(norm(_sensed.velocity_w) <= _limits.speed)) {
        return Reason::SPEED;
    }
    if (!(norm(_sensed.angular_velocity_b) <= _limits.body_rate)) {
        return Reason::BODY_RATE;
    }
    return Reason::NONE;
}

void Flight::trip(Reason reason)
{
    _phase = Phase::TRIPPED;
    _reason = reason;
    _locked = true;
    _asked_us = 0;
    _trips[static_cast<int>(reason)]++;
}

/* Ask the policy, and judge. Returns whether the motors may be written. */
bool Flight::fly(const Inputs &in, Decision &decision)
{
    observe(in);
    _status = policy_step(&_policy, &_observation, in.now_us, _action);
    const Reason found = check_flying(in);
    if (found != Reason::NONE) {
        trip(found);
        return false;
    }
    float throttle[POLICY_NUM_ACTIONS];
    policy_command(_action, throttle);
    for (uint32_t i = 0; i < POLICY_NUM_ACTIONS; i++) {
        decision.control[i] = fminf(1.0f, fmaxf(0.0f, throttle[ROTOR_OF_MOTOR[i]]));
    }
    return in.motors_free;
}

} // namespace alula
