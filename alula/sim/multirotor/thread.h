/* One environment a thread, in C++: the types and functions that lanes.h otherwise has for vectors.
 *
 * A block is one environment, LANES is 1, and a mask is all ones or zero. What stands in a local array is in registers
 * as long as every index is known when it is compiled; so all is inlined and such loops are unrolled.
 */
#ifndef ALULA_THREAD_H
#define ALULA_THREAD_H

#ifdef __CUDACC_RTC__ /* has no headers of its own */
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
#else
#include <math.h>
#include <stdint.h>
#include <string.h>
#endif

#ifdef __CUDACC__
#define INLINE static __device__ __forceinline__
#define MEMBER __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#else /* for tests: the same source on the CPU, whose only thread is set by the loop around the kernels */
#define INLINE static inline __attribute__((always_inline))
#define MEMBER inline __attribute__((always_inline))
#define UNROLL
#define __global__
#define __grid_constant__
#define __launch_bounds__(n)
struct Index {
    unsigned x;
};
static Index blockIdx, threadIdx, blockDim = {1};
static inline int __float_as_int(float x) { int32_t y; memcpy(&y, &x, 4); return y; }
static inline float __int_as_float(int32_t x) { float y; memcpy(&y, &x, 4); return y; }
#endif

#define LANES 1
#define VW 1
/* Room for rows; there may be none. */
#define LOCAL(name, rows) float name[(rows) > 0 ? (rows) : 1]

struct vec;
struct uvec;
struct ivec {
    int32_t x;
    ivec() = default;
    MEMBER ivec(int32_t value) : x(value) {}
    MEMBER explicit ivec(vec bits);
    MEMBER explicit ivec(uvec bits);
    MEMBER int32_t operator[](int) const { return x; }
};
struct uvec {
    uint32_t x;
    uvec() = default;
    MEMBER uvec(uint32_t value) : x(value) {}
    MEMBER explicit uvec(vec bits);
    MEMBER explicit uvec(ivec bits);
};
struct vec {
    float x;
    vec() = default;
    MEMBER vec(float value) : x(value) {}
    MEMBER explicit vec(ivec bits) : x(__int_as_float(bits.x)) {}
    MEMBER explicit vec(uvec bits) : x(__int_as_float((int32_t)bits.x)) {}
    MEMBER float operator[](int) const { return x; }
};
/* A cast between them keeps the bits, as between machine vectors. */
MEMBER ivec::ivec(vec bits) : x(__float_as_int(bits.x)) {}
MEMBER ivec::ivec(uvec bits) : x((int32_t)bits.x) {}
MEMBER uvec::uvec(vec bits) : x((uint32_t)__float_as_int(bits.x)) {}
MEMBER uvec::uvec(ivec bits) : x((uint32_t)bits.x) {}

#define OPERATOR(type, op) INLINE type operator op(type a, type b) { return type(a.x op b.x); }
#define COMPARISON(op) INLINE ivec operator op(vec a, vec b) { return ivec(a.x op b.x ? -1 : 0); }
#define ASSIGNMENT(type, op) INLINE type &operator op##=(type &a, type b) { a.x op##= b.x; return a; }
OPERATOR(vec, +) OPERATOR(vec, -) OPERATOR(vec, *) OPERATOR(vec, /)
OPERATOR(ivec, +) OPERATOR(ivec, -) OPERATOR(ivec, &) OPERATOR(ivec, |)
OPERATOR(uvec, +) OPERATOR(uvec, &) OPERATOR(uvec, |) OPERATOR(uvec, ^)
COMPARISON(<) COMPARISON(>) COMPARISON(>=)
ASSIGNMENT(vec, +) ASSIGNMENT(ivec, &) ASSIGNMENT(ivec, |) ASSIGNMENT(uvec, ^)
INLINE vec operator-(vec a) { return vec(-a.x); }
INLINE ivec operator~(ivec a) { return ivec(~a.x); }
INLINE uvec operator~(uvec a) { return uvec(~a.x); }
INLINE ivec operator<<(ivec a, int n) { return ivec((int32_t)((uint32_t)a.x << n)); }
INLINE ivec operator>>(ivec a, int n) { return ivec(a.x >> n); }
INLINE uvec operator<<(uvec a, int n) { return uvec(a.x << n); }
INLINE uvec operator>>(uvec a, int n) { return uvec(a.x >> n); }

INLINE vec v_load(const float *p) { return vec(*p); }
INLINE void v_store(float *p, vec v) { *p = v.x; }
INLINE vec v_set(float x) { return vec(x); }
INLINE vec v_where_gt(vec a, vec b, vec x, vec y) { return vec(a.x > b.x ? x.x : y.x); }
INLINE vec v_max(vec a, vec b) { return vec(fmaxf(a.x, b.x)); }
INLINE vec v_min(vec a, vec b) { return vec(fminf(a.x, b.x)); }
INLINE vec v_sqrt(vec a) { return vec(sqrtf(a.x)); }
INLINE float v_sum(vec a) { return a.x; }
INLINE vec v_float(ivec a) { return vec((float)a.x); }
INLINE ivec v_int(vec a) { return ivec((int32_t)a.x); }
INLINE int v_any(ivec mask) { return mask.x != 0; }
INLINE ivec v_all() { return ivec(-1); }

#endif
