#pragma once

#include <px4_platform_common/atomic.h>
#include <px4_platform_common/module_print.h>

#include <cstring>

template <class T>
class ModuleBase
{
public:
    virtual ~ModuleBase() = default;
    virtual int print_status() { return 0; }

    static int main(int argc, char *argv[])
    {
        if (argc > 1 && strcmp(argv[1], "start") == 0) {
            return _task_id != -1 ? -1 : T::task_spawn(argc - 1, argv + 1);
        }
        if (argc > 1 && strcmp(argv[1], "stop") == 0 && _object.load() != nullptr) {
            _object.load()->_should_exit = true;
            return 0;
        }
        if (argc > 1 && strcmp(argv[1], "status") == 0 && _object.load() != nullptr) {
            return _object.load()->print_status();
        }
        return T::print_usage();
    }

protected:
    bool should_exit() const { return _should_exit; }

    static void exit_and_cleanup()
    {
        delete _object.load();
        _object.store(nullptr);
        _task_id = -1;
    }

    static constexpr int task_id_is_work_queue = -2;
    inline static px4::atomic<T *> _object{nullptr};
    inline static int _task_id = -1;

private:
    bool _should_exit{false};
};
