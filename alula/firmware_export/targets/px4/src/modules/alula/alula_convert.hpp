/* Between PX4's frames (world NED, body FRD) and the policy's (world with z up, body FLU). No PX4 in here.
 *
 * The policy's world has its x axis along a heading psi, which is PX4's yaw: clockwise from north, seen from
 * above. So heading zero of the policy is yaw psi of the vehicle; psi = 90 degrees gives plain ENU. */
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace alula
{

static constexpr int PREVIEWS = 4;
static constexpr float PREVIEW_S[PREVIEWS] = {0.1f, 0.2f, 0.4f, 0.6f}; /* how far a policy sees ahead */

/* Everything that an observation is made of, in the policy's frames. */
struct Sensed {
    float position_w[3];         /* [m] */
    float rot_wb[9];             /* row-major, body to world [-] */
    float velocity_w[3];         /* [m/s] */
    float angular_velocity_b[3]; /* [rad/s] */
    float reference_position_w[3];
    float reference_velocity_w[3];
    float reference_acceleration_w[3]; /* [m/s^2] */
};

inline bool all_finite(const float *x, int count)
{
    for (int i = 0; i < count; i++) {
        if (!(fabsf(x[i]) <= FLT_MAX)) {
            return false;
        }
    }
    return true;
}

inline float norm(const float v[3]) { return sqrtf(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]); }

inline void difference(const float a[3], const float b[3], float out[3])
{
    for (int axis = 0; axis < 3; axis++) {
        out[axis] = a[axis] - b[axis];
    }
}

/* An angle brought to [-pi, pi]; NaN stays NaN. */
inline float wrap(float angle)
{
    return atan2f(sinf(angle), cosf(angle));
}

/* World vector: x = n cos psi + e sin psi, y = n sin psi - e cos psi, z = -d. Its own inverse. */
inline void world_from_ned(float psi, const float ned[3], float out[3])
{
    const float c = cosf(psi), s = sinf(psi);
    const float n = ned[0], e = ned[1], d = ned[2];
    out[0] = c * n + s * e;
    out[1] = s * n - c * e;
    out[2] = -d;
}

/* Body vector: forward, left, up = forward, -right, -down. */
inline void flu_from_frd(const float frd[3], float out[3])
{
    out[0] = frd[0];
    out[1] = -frd[1];
    out[2] = -frd[2];
}

/* Rotation matrix of a quaternion (w, x, y, z) of any length:
 * R = I + s (w [v]x + [v]x^2), s = 2 / |q|^2. A quaternion of zeros gives NaN. */
inline void rotation(const float q[4], float r[9])
{
    const float w = q[0], x = q[1], y = q[2], z = q[3];
    const float s = 2.0f / (w * w + x * x + y * y + z * z);
    r[0] = 1.0f - s * (y * y + z * z);
    r[1] = s * (x * y - w * z);
    r[2] = s * (x * z + w * y);
    r[3] = s * (x * y + w * z);
    r[4] = 1.0f - s * (x * x + z * z);
    r[5] = s * (y * z - w * x);
    r[6] = s * (x * z - w * y);
    r[7] = s * (y * z + w * x);
    r[8] = 1.0f - s * (x * x + y * y);
}

/* PX4's yaw of an attitude FRD to NED: where the body's forward axis points [rad]. */
inline float yaw(const float q[4])
{
    float r[9];
    rotation(q, r);
    return atan2f(r[3], r[0]);
}

/* Attitude FLU to the policy's world from q, FRD to NED: each column of R(q) through world_from_ned, and the
 * columns of right and down turned about. */
inline void rot_from_quat(float psi, const float q[4], float out[9])
{
    float r[9];
    rotation(q, r);
    for (int column = 0; column < 3; column++) {
        const float sign = column == 0 ? 1.0f : -1.0f;
        const float ned[3] = {sign * r[column], sign * r[3 + column], sign * r[6 + column]};
        float world[3];
        world_from_ned(psi, ned, world);
        for (int row = 0; row < 3; row++) {
            out[3 * row + column] = world[row];
        }
    }
}

/* One function for each entry that a policy may ask for. A hover policy holds the origin, so it is shown the
 * position relative to the reference; its velocity is the true one. */
inline void position_w(const Sensed &in, float out[3])
{
    difference(in.position_w, in.reference_position_w, out);
}

inline void position_error_w(const Sensed &in, float out[3])
{
    difference(in.position_w, in.reference_position_w, out);
}

inline void rot_wb(const Sensed &in, float out[9]) { memcpy(out, in.rot_wb, sizeof in.rot_wb); }

inline void velocity_w(const Sensed &in, float out[3]) { memcpy(out, in.velocity_w, sizeof in.velocity_w); }

inline void velocity_error_w(const Sensed &in, float out[3])
{
    difference(in.velocity_w, in.reference_velocity_w, out);
}

inline void angular_velocity_b(const Sensed &in, float out[3])
{
    memcpy(out, in.angular_velocity_b, sizeof in.angular_velocity_b);
}

/* A setpoint holds one instant, so it goes on: p(t + tau) - p(t) = v tau + a tau^2 / 2. */
inline void reference_preview_w(const Sensed &in, float out[3 * PREVIEWS])
{
    for (int i = 0; i < PREVIEWS; i++) {
        const float tau = PREVIEW_S[i];
        for (int axis = 0; axis < 3; axis++) {
            out[3 * i + axis]
                = (in.reference_velocity_w[axis] + 0.5f * in.reference_acceleration_w[axis] * tau) * tau;
        }
    }
}

} // namespace alula
