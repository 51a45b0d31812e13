/* Lets a Python program under callgrind say what is to be counted. */
#include <valgrind/callgrind.h>

void
mark_begin(void)
{
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

void
mark_end(const char *what)
{
    CALLGRIND_DUMP_STATS_AT(what);
    CALLGRIND_STOP_INSTRUMENTATION;
}
