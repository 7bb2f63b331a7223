#pragma once

#include <cstdint>

namespace px4
{
struct wq_config_t {
    const char *name;
};

namespace wq_configurations
{
inline constexpr wq_config_t rate_ctrl{"wq:rate_ctrl"};
}

inline class WorkItem *the_item = nullptr;
inline uint32_t scheduled_us = 0;

class WorkItem
{
public:
    WorkItem(const char *, const wq_config_t &) { the_item = this; }
    virtual ~WorkItem() { the_item = nullptr; }
    void run_once() { Run(); }

protected:
    virtual void Run() = 0;
};

class ScheduledWorkItem : public WorkItem
{
protected:
    ScheduledWorkItem(const char *name, const wq_config_t &config) : WorkItem(name, config) {}
    void ScheduleDelayed(uint32_t delay_us) { scheduled_us = delay_us; }
    void ScheduleClear() { scheduled_us = 0; }
};
} // namespace px4
