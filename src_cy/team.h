/* Tickets for a team of threads, the copy of a row that lies awkwardly, and a random order.
 *
 * A ticket is one piece of one phase. Tickets are taken in order, each when its piece may start: a thread that
 * waits (but for the order within a lane), or was never scheduled, holds no ticket and nobody up. */
#ifndef CSOFTMAX_TEAM_H
#define CSOFTMAX_TEAM_H

#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int64_t next;   /* the next ticket to hand out */
    int64_t apart[7];
    int64_t done;   /* pieces finished: in a cache line of its own, as those who wait read it all the time */
    int64_t apart_too[7];
    int64_t inside; /* threads that may touch the caller's arrays */
    int64_t left;   /* helpers that will not touch them any more */
    int64_t closed; /* nobody starts another piece */
} ticket_office;

static inline int64_t next_ticket(const ticket_office *office)
{
    return __atomic_load_n(&office->next, __ATOMIC_RELAXED);
}

static inline void finish_ticket(ticket_office *office)
{
    __atomic_fetch_add(&office->done, 1, __ATOMIC_RELEASE);
}

static inline void close_office(ticket_office *office)
{
    __atomic_store_n(&office->closed, 1, __ATOMIC_SEQ_CST);
}

/* A helper enters before it takes tickets; refused once the office is closed. */
static inline int enter_office(ticket_office *office)
{
    __atomic_fetch_add(&office->inside, 1, __ATOMIC_SEQ_CST);
    return !__atomic_load_n(&office->closed, __ATOMIC_SEQ_CST);
}

static inline void leave_office(ticket_office *office)
{
    __atomic_fetch_sub(&office->inside, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&office->left, 1, __ATOMIC_SEQ_CST);
}

/* helpers that have been scheduled at all */
static inline int64_t has_come(const ticket_office *office)
{
    return __atomic_load_n(&office->left, __ATOMIC_RELAXED) + __atomic_load_n(&office->inside, __ATOMIC_RELAXED);
}

static inline int64_t has_left(const ticket_office *office)
{
    return __atomic_load_n(&office->left, __ATOMIC_SEQ_CST);
}

/* Spinning is right for pieces of microseconds; yielding, when their thread is off its core. */
static inline void pause_waiting(int64_t *spins)
{
    if (++*spins > 2000) {
        sched_yield();
        return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Until a counter has come so far; 0 if the office was closed first. */
static inline int wait_for(ticket_office *office, const int64_t *counter, int64_t least)
{
    int64_t spins = 0;
    while (!__atomic_load_n(&office->closed, __ATOMIC_RELAXED)) {
        if (__atomic_load_n(counter, __ATOMIC_ACQUIRE) >= least)
            return 1;
        pause_waiting(&spins);
    }
    return 0;
}

/* Of the threads that find a counter at n, one makes it n + 1. */
static inline int claimed(int64_t *counter, int64_t n)
{
    return __atomic_compare_exchange_n(counter, &n, n + 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static inline void set_counter(int64_t *counter, int64_t value)
{
    __atomic_store_n(counter, value, __ATOMIC_RELEASE);
}

static inline void wait_until_empty(ticket_office *office)
{
    int64_t spins = 0;
    while (__atomic_load_n(&office->inside, __ATOMIC_SEQ_CST) > 0)
        pause_waiting(&spins);
}

/* A new thread may be put where its caller runs, and stay there for the milliseconds that the scheduler takes to see
 * that another CPU has nothing to do. So it goes to one of those that it may use, each helper to its own. */
static inline void leave_cpu_of_caller(int cpu_of_caller, int slot)
{
#if defined(__linux__)
    cpu_set_t allowed, other;
    if (sched_getcpu() != cpu_of_caller || sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    const int n_others = CPU_COUNT(&allowed) - 1;
    int skipped = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && n_others > 0; cpu++)
        if (cpu != cpu_of_caller && CPU_ISSET(cpu, &allowed) && skipped++ == (slot - 1) % n_others) {
            CPU_ZERO(&other);
            CPU_SET(cpu, &other);
            sched_setaffinity(0, sizeof other, &other);
            sched_setaffinity(0, sizeof allowed, &allowed);
            return;
        }
#else
    (void)cpu_of_caller, (void)slot;
#endif
}

static inline int current_cpu(void)
{
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

/* How many CPUs this process may use. */
static inline int usable_cpus(void)
{
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        return CPU_COUNT(&allowed);
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

static inline void prefetch(const void *address)
{
    __builtin_prefetch(address);
}

static inline double monotonic_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A random order of n items. A word of 64 random bits says with which of those from it on items i and i + 1 change
 * places: word * (n - i) has the first in its upper half, and in its lower half what is random of the second. By
 * n^2 / 2^64, at most, one place is likelier than another. */
static inline void shuffle_items(int64_t *items, ptrdiff_t n, const uint64_t *words)
{
    __extension__ typedef unsigned __int128 product;
    uint64_t random = 0;
    for (ptrdiff_t i = 0; i + 1 < n; i++) {
        const product p = (product)(i % 2 == 0 ? words[i / 2] : random) * (uint64_t)(n - i);
        int64_t *other = items + i + (ptrdiff_t)(p >> 64), item = items[i];
        random = (uint64_t)p;
        items[i] = *other;
        *other = item;
    }
}

/* n items of 1, 2, 4 or 8 bytes, `from_stride` and `to_stride` bytes apart, their bytes reversed or not */
static inline void copy_items(char *to, ptrdiff_t to_stride, const char *from, ptrdiff_t from_stride,
                              ptrdiff_t n, ptrdiff_t item_size, int reversed)
{
#define COPY(type, swap)                                           \
    for (ptrdiff_t j = 0; j < n; j++) {                            \
        type item;                                                 \
        memcpy(&item, from + j * from_stride, sizeof item);        \
        item = reversed ? swap(item) : item;                       \
        memcpy(to + j * to_stride, &item, sizeof item);            \
    }
    switch (item_size) {
    case 1: COPY(uint8_t, ) break;
    case 2: COPY(uint16_t, __builtin_bswap16) break;
    case 4: COPY(uint32_t, __builtin_bswap32) break;
    default: COPY(uint64_t, __builtin_bswap64) break;
    }
#undef COPY
}

#endif
