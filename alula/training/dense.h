/* Dense layers over one block of LANES samples: rows of activations [rows][LANES], weights [inputs][outputs].
 *
 * Tiles keep their sums in registers: 4 outputs by one row of lanes (8 sums with 8-wide vectors) in the forward
 * and the input-gradient pass; 2 x 4 weights by one vector in the weight-gradient pass.
 */
#ifndef ALULA_DENSE_H
#define ALULA_DENSE_H

#include "lanes.h"

#define NV (LANES / VW)

/* Hold a vector in a register: left alone, gcc loads it again for every product it appears in. */
#if defined(__cplusplus)
#define HOLD(v) (void)0
#elif defined(__x86_64__)
#define HOLD(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define HOLD(v) __asm__("" : "+w"(v))
#else
#define HOLD(v) (void)0
#endif

/* acc[jj] += sum_i w[i][j + jj] x[i] for `tile` outputs. */
#define DENSE_TILE(tile)                                                                          \
    static inline void dense_tile_##tile(const float *x, int n, const float *w, int ny, vec acc[][NV]) \
    {                                                                                             \
        for (int i = 0; i < n; i++, x += LANES, w += ny) {                                        \
            vec row[NV];                                                                          \
            for (int v = 0; v < NV; v++) {                                                        \
                row[v] = v_load(x + v * VW);                                                      \
                HOLD(row[v]);                                                                     \
            }                                                                                     \
            _Pragma("GCC unroll 8") for (int j = 0; j < tile; j++)                                \
                for (int v = 0; v < NV; v++) acc[j][v] += w[j] * row[v];                          \
        }                                                                                         \
    }
DENSE_TILE(4)
DENSE_TILE(1)

/* y = W' [x0; x1] + bias; the input may stand in two places. */
static void dense(const float *x0, int n0, const float *x1, int n1, const float *w, const float *bias, int ny, float *y)
{
    int j = 0;
    for (; j + 4 <= ny; j += 4) {
        vec acc[4][NV];
        for (int jj = 0; jj < 4; jj++)
            for (int v = 0; v < NV; v++) acc[jj][v] = v_set(bias[j + jj]);
        dense_tile_4(x0, n0, w + j, ny, acc);
        dense_tile_4(x1, n1, w + (int64_t)n0 * ny + j, ny, acc);
        for (int jj = 0; jj < 4; jj++)
            for (int v = 0; v < NV; v++) v_store(y + (j + jj) * LANES + v * VW, acc[jj][v]);
    }
    for (; j < ny; j++) {
        vec acc[1][NV];
        for (int v = 0; v < NV; v++) acc[0][v] = v_set(bias[j]);
        dense_tile_1(x0, n0, w + j, ny, acc);
        dense_tile_1(x1, n1, w + (int64_t)n0 * ny + j, ny, acc);
        for (int v = 0; v < NV; v++) v_store(y + j * LANES + v * VW, acc[0][v]);
    }
}

/* dx (+)= W dy for `n` inputs whose weights start at `w`. */
static void dense_input_gradient(const float *w, int n, int ny, const float *dy, float *dx, int add)
{
    int i = 0;
    for (; i + 4 <= n; i += 4, w += 4 * (int64_t)ny) {
        vec acc[4][NV];
        for (int ii = 0; ii < 4; ii++)
            for (int v = 0; v < NV; v++) acc[ii][v] = add ? v_load(dx + (i + ii) * LANES + v * VW) : v_set(0.0f);
        for (int j = 0; j < ny; j++) {
            vec row[NV];
            for (int v = 0; v < NV; v++) {
                row[v] = v_load(dy + j * LANES + v * VW);
                HOLD(row[v]);
            }
            _Pragma("GCC unroll 8") for (int ii = 0; ii < 4; ii++)
                for (int v = 0; v < NV; v++) acc[ii][v] += w[ii * ny + j] * row[v];
        }
        for (int ii = 0; ii < 4; ii++)
            for (int v = 0; v < NV; v++) v_store(dx + (i + ii) * LANES + v * VW, acc[ii][v]);
    }
    for (; i < n; i++, w += ny)
        EACH_VECTOR(o)
        {
            vec acc = add ? v_load(dx + i * LANES + o) : v_set(0.0f);
            for (int j = 0; j < ny; j++) acc += w[j] * v_load(dy + j * LANES + o);
            v_store(dx + i * LANES + o, acc);
        }
}

/* dw[i][j] (+)= sum over steps and lanes of x[t][i] dy[t][j]; steps are `xs` and `ys` floats apart. */
static void dense_weight_gradient(const float *x, int64_t xs, int nx, const float *dy, int64_t ys, int ny, int steps,
                                  float *dw)
{
    int j = 0;
    for (; j + 4 <= ny; j += 4) {
        int i = 0;
        for (; i + 2 <= nx; i += 2) {
            vec acc[2][4];
            memset(acc, 0, sizeof acc);
            const float *a = x + (int64_t)i * LANES, *d = dy + (int64_t)j * LANES;
            for (int t = 0; t < steps; t++, a += xs, d += ys)
                _Pragma("GCC unroll 4") for (int o = 0; o < LANES; o += VW)
                {
                    vec a0 = v_load(a + o), a1 = v_load(a + LANES + o);
                    HOLD(a0);
                    HOLD(a1);
                    _Pragma("GCC unroll 4") for (int jj = 0; jj < 4; jj++)
                    {
                        vec g = v_load(d + jj * LANES + o);
                        HOLD(g);
                        acc[0][jj] += a0 * g;
                        acc[1][jj] += a1 * g;
                    }
                }
            for (int jj = 0; jj < 4; jj++) {
                dw[(int64_t)i * ny + j + jj] += v_sum(acc[0][jj]);
                dw[(int64_t)(i + 1) * ny + j + jj] += v_sum(acc[1][jj]);
            }
        }
        for (; i < nx; i++)
            for (int jj = 0; jj < 4; jj++) {
                vec acc = v_set(0.0f);
                for (int t = 0; t < steps; t++)
                    EACH_VECTOR(o)
                        acc += v_load(x + t * xs + i * LANES + o) * v_load(dy + t * ys + (j + jj) * LANES + o);
                dw[(int64_t)i * ny + j + jj] += v_sum(acc);
            }
    }
    for (; j < ny; j++)
        for (int i = 0; i < nx; i++) {
            vec acc = v_set(0.0f);
            for (int t = 0; t < steps; t++)
                EACH_VECTOR(o) acc += v_load(x + t * xs + i * LANES + o) * v_load(dy + t * ys + j * LANES + o);
            dw[(int64_t)i * ny + j] += v_sum(acc);
        }
}

/* db[j] += sum over steps and lanes of dy[t][j]. */
static void dense_bias_gradient(const float *dy, int64_t ys, int ny, int steps, float *db)
{
    for (int j = 0; j < ny; j++) {
        vec acc = v_set(0.0f);
        for (int t = 0; t < steps; t++) EACH_VECTOR(o) acc += v_load(dy + t * ys + j * LANES + o);
        db[j] += v_sum(acc);
    }
}

static inline void relu(float *y, int rows)
{
    for (int i = 0; i < rows * LANES; i += VW) v_store(y + i, v_max(v_load(y + i), v_set(0.0f)));
}

/* Cotangent through a ReLU: zero where its output is zero. */
static inline void relu_gradient(const float *y, float *dy, int rows)
{
    for (int i = 0; i < rows * LANES; i += VW)
        v_store(dy + i, v_where_gt(v_load(y + i), v_set(0.0f), v_load(dy + i), v_set(0.0f)));
}

/* y = z / sqrt(1 + z^2), smooth and in (-1, 1). */
static inline void squash(float *z, int rows)
{
    for (int i = 0; i < rows * LANES; i += VW) {
        const vec x = v_load(z + i);
        v_store(z + i, x / v_sqrt(1.0f + x * x));
    }
}

/* dy/dz = (1 + z^2)^(-3/2) = (1 - y^2)^(3/2). */
static inline void squash_gradient(const float *y, float *dy, int rows)
{
    for (int i = 0; i < rows * LANES; i += VW) {
        const vec a = v_load(y + i), s = v_max(1.0f - a * a, v_set(0.0f));
        v_store(dy + i, v_load(dy + i) * s * v_sqrt(s));
    }
}

#endif
