#pragma once

#include <px4_platform_common/px4_work_queue/ScheduledWorkItem.hpp>
#include <uORB/Subscription.hpp>

namespace uORB
{
class SubscriptionCallbackWorkItem : public Subscription
{
public:
    SubscriptionCallbackWorkItem(px4::WorkItem *, orb_metadata *topic) : Subscription(topic) {}
    bool registerCallback() { return is_registered = true; }
    void unregisterCallback() { is_registered = false; }
    bool is_registered{false};
};
} // namespace uORB
