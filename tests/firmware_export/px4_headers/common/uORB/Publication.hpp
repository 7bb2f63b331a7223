#pragma once

#include <uORB/uORB.h>

namespace uORB
{
template <typename T>
class Publication
{
public:
    explicit Publication(orb_metadata *topic) : _topic(topic) {}

    bool publish(const T &message)
    {
        static_assert(sizeof(T) <= sizeof _topic->message, "message too long");
        memcpy(_topic->message, &message, sizeof message);
        _topic->generation++;
        return true;
    }

private:
    orb_metadata *_topic;
};
} // namespace uORB
