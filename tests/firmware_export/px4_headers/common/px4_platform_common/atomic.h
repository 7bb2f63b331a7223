#pragma once

namespace px4
{
template <typename T>
class atomic
{
public:
    explicit constexpr atomic(T value) : _value(value) {}
    T load() const { return _value; }
    void store(T value) { _value = value; }

private:
    T _value;
};
using atomic_bool = atomic<bool>;
} // namespace px4
