/* Parameters by name, as numbers that a test sets. PARAMETERS lists name, type and default. */
#pragma once

#include <map>
#include <string>

#define PARAMETERS(ENTRY)                                                                                       \
    ENTRY(THR_MDL_FAC, 0) ENTRY(ALULA_EXIT, 4) ENTRY(ALULA_AGE_RATE, 10) ENTRY(ALULA_AGE_ATT, 50)               \
    ENTRY(ALULA_AGE_POS, 100) ENTRY(ALULA_AGE_SP, 200) ENTRY(ALULA_HELD_MAX, 50) ENTRY(ALULA_TILT_MAX, 60)      \
    ENTRY(ALULA_HDG_MAX, 60) ENTRY(ALULA_DIST_MAX, 2) ENTRY(ALULA_FENCE_XY, 5) ENTRY(ALULA_FENCE_Z, 3)          \
    ENTRY(ALULA_VEL_MAX, 5) ENTRY(ALULA_RATE_MAX, 1000) ENTRY(ALULA_YAW_RATE, 30)

namespace px4
{
enum class params {
#define ENTRY(name, initial) name,
    PARAMETERS(ENTRY)
#undef ENTRY
    COUNT
};
} // namespace px4

inline const char *const PARAMETER_NAMES[] = {
#define ENTRY(name, initial) #name,
    PARAMETERS(ENTRY)
#undef ENTRY
};

inline double parameter_values[] = {
#define ENTRY(name, initial) initial,
    PARAMETERS(ENTRY)
#undef ENTRY
};

/* As in PX4 a parameter keeps its value until updateParams. */
class ModuleParams
{
public:
    explicit ModuleParams(ModuleParams *) {}
    virtual ~ModuleParams() = default;

protected:
    void updateParams() { generation++; }
    unsigned generation{1};
};

template <typename T, px4::params P>
class Param
{
public:
    explicit Param(const unsigned &generation) : _generation(generation) {}

    T get()
    {
        if (_seen != _generation) {
            _seen = _generation;
            _value = static_cast<T>(parameter_values[static_cast<int>(P)]);
        }
        return _value;
    }

private:
    const unsigned &_generation;
    unsigned _seen{0};
    T _value{};
};
template <px4::params P>
using ParamFloat = Param<float, P>;
template <px4::params P>
using ParamInt = Param<int, P>;

/* (Type<P>) name, fifteen times: the members. */
#define STRIP(...) __VA_ARGS__
#define MEMBER(declaration) STRIP declaration{generation};
#define DEFINE_PARAMETERS(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o)                                          \
    MEMBER(a) MEMBER(b) MEMBER(c) MEMBER(d) MEMBER(e) MEMBER(f) MEMBER(g) MEMBER(h) MEMBER(i) MEMBER(j)         \
    MEMBER(k) MEMBER(l) MEMBER(m) MEMBER(n) MEMBER(o)
