/* Doors into lanes.h for test_lanes.py: one call of each function on one vector row. */
#include "lanes.h"

void draw_bits(uint32_t *rng, uint32_t *out)
{
    EACH_VECTOR(o)
    {
        Generator g = v_generator(rng + o);
        *(uvec *)(out + o) = v_random(&g);
        v_keep_generator(rng + o, g);
    }
}
void draw_normal(uint32_t *rng, float *a, float *b)
{
    EACH_VECTOR(o)
    {
        vec x, y;
        Generator g = v_generator(rng + o);
        v_normal(&g, &x, &y);
        v_keep_generator(rng + o, g);
        v_store(a + o, x);
        v_store(b + o, y);
    }
}
void draw_uniform(uint32_t *rng, float *a, float *b)
{
    EACH_VECTOR(o)
    {
        Generator g = v_generator(rng + o);
        v_store(a + o, v_uniform01(&g));
        v_store(b + o, v_uniform11(&g));
        v_keep_generator(rng + o, g);
    }
}
void sine(const float *x, float *y) { EACH_VECTOR(o) v_store(y + o, v_sin(v_load(x + o))); }
void logarithm(const float *x, float *y) { EACH_VECTOR(o) v_store(y + o, v_log(v_load(x + o))); }
void exponential(const float *x, float *y) { EACH_VECTOR(o) v_store(y + o, v_exp(v_load(x + o))); }
void nearest(const float *x, float *y) { EACH_VECTOR(o) v_store(y + o, v_round(v_load(x + o))); }
void root(const float *x, float *y) { EACH_VECTOR(o) v_store(y + o, v_sqrt(v_load(x + o))); }
void larger(const float *x, const float *z, float *y) { EACH_VECTOR(o) v_store(y + o, v_max(v_load(x + o), v_load(z + o))); }
void smaller(const float *x, const float *z, float *y) { EACH_VECTOR(o) v_store(y + o, v_min(v_load(x + o), v_load(z + o))); }
void choose(const float *x, const float *z, float *y)
{
    EACH_VECTOR(o) v_store(y + o, v_where_gt(v_load(x + o), v_load(z + o), v_load(x + o), v_set(-1.0f)));
}
