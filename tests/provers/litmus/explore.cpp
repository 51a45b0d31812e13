/* SPDX-License-Identifier: Apache-2.0
 *
 * Explores the litmus tests with Relacy:  litmus [-b BOUND] [-f] [-r EXECUTIONS] [-x] [-l] [-v] [-n] [NAME...]
 *
 * Each test is searched as it asks: in full, or every execution of at most BOUND preemptions ("bound"); in
 * both, a load may see the newest value that it may see, or one of the two before. -r does random executions
 * instead. Tests that are named run in that order. -x stops at the first failure, -l prints the lines of the
 * headers that took a step, -v the history of a failure, -n names and edges of the tests instead.
 *
 * A seq_cst fence of Relacy also carries along what another one published. C11's does not; where that made
 * a difference, a mutant would survive here that fails on paper.
 */
#include "explore.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sstream>
#include <string>
#include <vector>

#include <relacy/relacy.hpp>
#undef new
#undef delete
#undef malloc
#undef free
#undef errno

alignas(4096) uint8_t litmus_memory[LITMUS_MEMORY];

namespace
{

enum { MOST_WORDS = 160, NO_WORD = 255 };

struct word {
    uint8_t *address;
    unsigned bytes;
    int kind;
    uint64_t before; /* a plain word, when last looked at */
    alignas(16) unsigned char atomic_bytes[sizeof(rl::atomic<uint64_t>)];
    alignas(16) unsigned char variable_bytes[sizeof(rl::var<uint64_t>)];

    rl::atomic<uint64_t> &
    atomic()
    {
        return *reinterpret_cast<rl::atomic<uint64_t> *>(atomic_bytes);
    }
    rl::var<uint64_t> &
    variable()
    {
        return *reinterpret_cast<rl::var<uint64_t> *>(variable_bytes);
    }
    bool
    has_atomic() const
    {
        return kind == LITMUS_ATOMIC || kind == LITMUS_DATA;
    }
    bool
    has_variable() const
    {
        return kind == LITMUS_PLAIN || kind == LITMUS_DATA;
    }

    uint64_t
    raw() const
    {
        uint64_t value = 0;
        memcpy(&value, address, bytes);
        return value;
    }
    void
    set_raw(uint64_t value)
    {
        memcpy(address, &value, bytes);
    }
};

word words[MOST_WORDS];
unsigned word_count;
unsigned plain_count;
uint8_t index_of[LITMUS_MEMORY / 4];
bool exploring;
const litmus_test *test;
uint8_t first_memory[LITMUS_MEMORY];
uint8_t *first_world;
bool want_lines;

/* Where a step was taken, for -l. Without memory from Relacy's operator new. */
enum { MOST_PLACES = 1024 };
litmus_place places[MOST_PLACES];
unsigned place_count;

void
note(litmus_place place)
{
    for (unsigned i = 0; i < place_count; i++)
        if (places[i].line == place.line && strcmp(places[i].file, place.file) == 0)
            return;
    if (place_count == MOST_PLACES)
        abort();
    places[place_count++] = place;
}

/* The word at an address; nullptr for one that is no step now. */
word *
find(const void *address, litmus_place place)
{
    const size_t at = (size_t)((const uint8_t *)address - litmus_memory);
    const unsigned index = at < LITMUS_MEMORY ? index_of[at / 4] : (unsigned)NO_WORD;
    if (index == NO_WORD) {
        fprintf(stderr, "%s:%d: no word is known at this address (offset %zu)\n", place.file, place.line, at);
        abort();
    }
    if (want_lines)
        note(place);
    return exploring && words[index].kind != LITMUS_QUIET ? &words[index] : nullptr;
}

word &
known(const void *address)
{
    return words[index_of[(size_t)((const uint8_t *)address - litmus_memory) / 4]];
}

rl::debug_info
info_of(litmus_place place)
{
    return rl::debug_info(test->name, place.file, (unsigned)place.line);
}

/* Assignments to plain words since the last step were made by the thread that runs now. */
void
notice_plain(litmus_place place)
{
    if (!exploring || plain_count == 0)
        return;
    for (unsigned i = 0; i < word_count; i++) {
        word &w = words[i];
        if (w.kind == LITMUS_PLAIN && w.raw() != w.before) {
            w.before = w.raw();
            w.variable()(info_of(place)).store(w.before);
        }
    }
}

rl::memory_order
order_of(int order)
{
    static const rl::memory_order orders[] = {rl::mo_relaxed, rl::mo_acquire, rl::mo_release, rl::mo_acq_rel};
    return orders[order];
}

uint64_t
masked(const word *w, uint64_t value)
{
    return w->bytes == 4 ? (uint32_t)value : value;
}

struct suite : rl::test_suite<suite, LITMUS_THREADS> {
    suite()
    {
        memcpy(litmus_memory, first_memory, sizeof first_memory);
        memcpy(litmus_world, first_world, litmus_world_bytes);
        for (unsigned i = 0; i < word_count; i++) {
            word &w = words[i];
            if (w.has_atomic())
                ::new (w.atomic_bytes) rl::atomic<uint64_t>();
            if (w.has_variable())
                ::new (w.variable_bytes) rl::var<uint64_t>();
        }
        for (unsigned i = 0; i < word_count; i++) {
            word &w = words[i];
            w.before = w.raw();
            if (w.has_atomic())
                w.atomic().store(w.before, rl::mo_relaxed, $);
            if (w.has_variable())
                w.variable()($).store(w.before);
        }
        exploring = true;
    }
    ~suite()
    {
        exploring = false;
        for (unsigned i = 0; i < word_count; i++) {
            word &w = words[i];
            if (w.has_atomic())
                w.atomic().~atomic();
            if (w.has_variable())
                w.variable().~var();
        }
    }
    void
    thread(unsigned index)
    {
        if (test->threads[index] != nullptr)
            test->threads[index]();
    }
    void
    after()
    {
        if (test->after != nullptr)
            test->after();
    }
};

/* Relacy's operator new and delete must not meet in one stream's memory: so it gets no memory to manage. */
struct fixed_buffer : std::streambuf {
    char text[1 << 16];
    void
    clear()
    {
        setp(text, text + sizeof text);
    }
    std::string
    str() const
    {
        return std::string(pbase(), pptr());
    }
};

double
cpu_seconds()
{
    return (double)clock() / CLOCKS_PER_SEC;
}

struct wishes {
    unsigned bound = 0;
    bool full = false;
    unsigned long random = 0;
    bool verbose = false;
};

bool
explore(const litmus_test *one, const wishes &wish)
{
    rl::test_params params;
    static fixed_buffer progress_buffer, state_buffer;
    progress_buffer.clear();
    state_buffer.clear();
    std::ostream progress(&progress_buffer), state(&state_buffer);
    test = one;
    word_count = plain_count = 0;
    memset(index_of, NO_WORD, sizeof index_of);
    memset(litmus_memory, 0, sizeof litmus_memory);
    memset(litmus_world, 0, litmus_world_bytes);
    one->prepare();
    memcpy(first_memory, litmus_memory, sizeof first_memory);
    memcpy(first_world, litmus_world, litmus_world_bytes);

    params.output_stream = params.progress_stream = &progress;
    params.execution_depth_limit = 5000;
    const unsigned bound = wish.full ? LITMUS_FULL : wish.bound != 0 ? wish.bound : one->bound;
    std::string search;
    rl::test_result_e result;
    const double began = cpu_seconds();
    if (wish.random != 0) {
        params.iteration_count = wish.random;
        search = "random";
        result = rl::run_test<suite, rl::random_scheduler<LITMUS_THREADS>>(params, state, false);
    } else if (bound == LITMUS_FULL) {
        search = "full";
        result = rl::run_test<suite, rl::full_search_scheduler<LITMUS_THREADS>>(params, state, false);
    } else {
        params.context_bound = bound;
        search = "bound " + std::to_string(bound);
        result = rl::run_test<suite, rl::context_bound_scheduler<LITMUS_THREADS>>(params, state, false);
    }
    exploring = false;
    const bool good = (result == rl::test_result_success) == (one->known_violation == nullptr);
    printf("%-22s | %-42s | %-8s | %9llu | %6.2f s | %s\n", one->name, one->edges, search.c_str(),
           (unsigned long long)params.stop_iteration, cpu_seconds() - began,
           good && one->known_violation != nullptr ? "as known"
           : good                                  ? "passed"
                                                   : "FAILED");
    fflush(stdout);
    if (result != rl::test_result_success && wish.verbose) {
        params.initial_state = state_buffer.str();
        params.collect_history = true;
        params.output_stream = &std::cout;
        if (wish.random != 0)
            rl::run_test<suite, rl::random_scheduler<LITMUS_THREADS>>(params, state, true);
        else if (bound == LITMUS_FULL)
            rl::run_test<suite, rl::full_search_scheduler<LITMUS_THREADS>>(params, state, true);
        else
            rl::run_test<suite, rl::context_bound_scheduler<LITMUS_THREADS>>(params, state, true);
        exploring = false;
    }
    return good;
}

} // namespace

/* ---- words ---- */

void
litmus_word(const void *address, unsigned bytes, int kind)
{
    const size_t at = (size_t)((const uint8_t *)address - litmus_memory);
    if (at >= LITMUS_MEMORY || word_count == MOST_WORDS)
        abort();
    word &w = words[word_count];
    w.address = litmus_memory + at;
    w.bytes = bytes;
    w.kind = kind;
    index_of[at / 4] = (uint8_t)word_count++;
    plain_count += kind == LITMUS_PLAIN;
}

uint64_t
litmus_load(const void *address, int order, litmus_place place)
{
    word *const w = find(address, place);
    notice_plain(place);
    if (w == nullptr)
        return known(address).raw();
    if (w->kind == LITMUS_PLAIN) { /* seen through another type: an atomic in a test of plain words */
        fprintf(stderr, "%s:%d: an atomic access to a plain word\n", place.file, place.line);
        abort();
    }
    return w->atomic().load(order_of(order), info_of(place));
}

void
litmus_store(void *address, uint64_t value, int order, litmus_place place)
{
    word *const w = find(address, place);
    notice_plain(place);
    if (w != nullptr)
        w->atomic().store(masked(w, value), order_of(order), info_of(place));
    known(address).set_raw(value); /* for those who read it plainly, in an order that a lock gives */
}

template <rl::rmw_type_e kind>
static uint64_t
modify(void *address, uint64_t value, int order, litmus_place place)
{
    word *const w = find(address, place);
    notice_plain(place);
    word &at = known(address);
    const uint64_t found =
        w == nullptr ? at.raw()
                     : w->atomic().rmw(rl::rmw_type_t<kind>(), value, order_of(order), info_of(place));
    at.set_raw(kind == rl::rmw_type_or    ? found | value
               : kind == rl::rmw_type_and ? found & value
                                          : found + value);
    return found;
}

uint64_t
litmus_fetch_or(void *address, uint64_t bits, int order, litmus_place place)
{
    return modify<rl::rmw_type_or>(address, bits, order, place);
}

uint64_t
litmus_fetch_and(void *address, uint64_t bits, int order, litmus_place place)
{
    return modify<rl::rmw_type_and>(address, bits, order, place);
}

uint64_t
litmus_fetch_add(void *address, uint64_t count, int order, litmus_place place)
{
    return modify<rl::rmw_type_add>(address, count, order, place);
}

int
litmus_cas(void *address, uint64_t *expected, uint64_t desired, int order, litmus_place place)
{
    word *const w = find(address, place);
    notice_plain(place);
    word &at = known(address);
    bool done;
    if (w == nullptr) {
        done = at.raw() == *expected;
        *expected = at.raw();
    } else {
        done = w->atomic().compare_exchange_strong(*expected, masked(w, desired), order_of(order),
                                                   info_of(place));
    }
    if (done)
        at.set_raw(desired);
    return done;
}

void
litmus_fence(int seq_cst, litmus_place place)
{
    if (want_lines)
        note(place);
    notice_plain(place);
    if (exploring)
        rl::atomic_thread_fence(seq_cst ? rl::mo_seq_cst : rl::mo_acquire, info_of(place));
}

/* ---- words of a frame ---- */

int
litmus_is_data(const void *address)
{
    const size_t at = (size_t)((const uint8_t *)address - litmus_memory);
    return at < LITMUS_MEMORY && index_of[at / 4] != NO_WORD && words[index_of[at / 4]].kind == LITMUS_DATA;
}

uint64_t
litmus_read(const void *address)
{
    word &w = known(address);
    return exploring ? w.variable()(info_of(LITMUS_HERE)).load() : w.raw();
}

uint64_t
litmus_peek(const void *address)
{
    word &w = known(address);
    return exploring ? w.atomic().load(rl::mo_relaxed, info_of(LITMUS_HERE)) : w.raw();
}

void
litmus_write(void *address, uint64_t value)
{
    word &w = known(address);
    if (exploring) {
        w.atomic().store(value, rl::mo_relaxed, info_of(LITMUS_HERE));
        w.variable()(info_of(LITMUS_HERE)).store(value);
    }
    w.set_raw(value);
}

void
litmus_read_plain(void)
{
    notice_plain(LITMUS_HERE);
    for (unsigned i = 0; i < word_count && exploring; i++)
        if (words[i].kind == LITMUS_PLAIN)
            words[i].variable()(info_of(LITMUS_HERE)).load();
}

/* ---- the system ---- */

void
litmus_futex_wait(const uint32_t *address, uint32_t value)
{
    word &w = known(address);
    rl::ctx().sched();
    if (w.atomic().debug_value() == value) /* the kernel compares and sleeps in one go: no step in between */
        w.atomic().wait(rl::ctx(), false, false, $);
}

void
litmus_futex_wake_all(const uint32_t *address)
{
    word &w = known(address);
    if (exploring)
        w.atomic().wake(rl::ctx(), LITMUS_THREADS, $);
}

void
litmus_yield(void)
{
    if (exploring)
        rl::yield(1, $);
}

void
litmus_fail(const char *what, litmus_place place)
{
    if (!exploring) {
        fprintf(stderr, "%s:%d: %s: while preparing %s\n", place.file, place.line, what, test->name);
        abort();
    }
    rl::ctx().fail_test(what, rl::test_result_user_assert_failed, info_of(place));
}

int
main(int argc, char **argv)
{
    wishes wish;
    std::vector<std::string> names;
    bool until_failure = false, only_names = false;
    for (int i = 1; i < argc; i++) {
        const std::string argument = argv[i];
        if (argument == "-f")
            wish.full = true;
        else if (argument == "-v")
            wish.verbose = true;
        else if (argument == "-x")
            until_failure = true;
        else if (argument == "-n")
            only_names = true;
        else if (argument == "-l")
            want_lines = true;
        else if (argument == "-b" && i + 1 < argc)
            wish.bound = (unsigned)strtoul(argv[++i], nullptr, 10);
        else if (argument == "-r" && i + 1 < argc)
            wish.random = strtoul(argv[++i], nullptr, 10);
        else
            names.push_back(argument);
    }
    first_world = static_cast<uint8_t *>(std::malloc(litmus_world_bytes));
    std::vector<const litmus_test *> all, wanted;
    for (size_t file = 0; file < litmus_files; file++)
        for (const litmus_test *one = litmus_tests[file]; one != nullptr && one->name != nullptr; one++)
            all.push_back(one);
    if (only_names) {
        for (const litmus_test *one : all)
            printf("%s|%s\n", one->name, one->edges);
        return 0;
    }
    for (const std::string &name : names)
        for (const litmus_test *one : all)
            if (name == one->name)
                wanted.push_back(one);
    unsigned passed = 0, failed = 0;
    for (const litmus_test *one : names.empty() ? all : wanted)
        if (!(failed != 0 && until_failure))
            explore(one, wish) ? passed++ : failed++;
    for (unsigned i = 0; i < place_count; i++)
        printf("step %s:%d\n", places[i].file, places[i].line);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
