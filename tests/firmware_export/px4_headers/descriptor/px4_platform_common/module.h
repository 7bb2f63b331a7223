#pragma once

#include <px4_platform_common/atomic.h>
#include <px4_platform_common/module_print.h>

#include <cstring>

class ModuleBase
{
public:
    struct Descriptor {
        constexpr Descriptor(int (*spawn)(int, char **), int (*command)(int, char **), int (*usage)(const char *))
            : task_spawn(spawn), custom_command(command), print_usage(usage)
        {
        }
        int (*task_spawn)(int, char **);
        int (*custom_command)(int, char **);
        int (*print_usage)(const char *);
        px4::atomic<ModuleBase *> object{nullptr};
        int task_id{-1};
    };

    virtual ~ModuleBase() = default;
    virtual int print_status() { return 0; }
    bool should_exit() const { return _should_exit; }

    static int main(Descriptor &desc, int argc, char *argv[])
    {
        if (argc > 1 && strcmp(argv[1], "start") == 0) {
            return desc.task_id != -1 ? -1 : desc.task_spawn(argc - 1, argv + 1);
        }
        if (argc > 1 && strcmp(argv[1], "stop") == 0 && desc.object.load() != nullptr) {
            desc.object.load()->_should_exit = true;
            return 0;
        }
        if (argc > 1 && strcmp(argv[1], "status") == 0 && desc.object.load() != nullptr) {
            return desc.object.load()->print_status();
        }
        return desc.print_usage(nullptr);
    }

    static void exit_and_cleanup(Descriptor &desc)
    {
        delete desc.object.load();
        desc.object.store(nullptr);
        desc.task_id = -1;
    }

    static constexpr int task_id_is_work_queue = -2;

private:
    bool _should_exit{false};
};
