#pragma once

#include <uORB/uORB.h>

namespace uORB
{
class Subscription
{
public:
    explicit Subscription(orb_metadata *topic) : _topic(topic) {}
    bool updated() const { return _topic->generation != _seen; }

    template <typename T>
    bool copy(T *message)
    {
        memcpy(message, _topic->message, sizeof *message);
        _seen = _topic->generation;
        return _seen != 0u;
    }

    template <typename T>
    bool update(T *message)
    {
        return updated() && copy(message);
    }

private:
    orb_metadata *_topic;
    uint32_t _seen{0};
};
} // namespace uORB
