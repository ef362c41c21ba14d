/* Tickets for a team of threads; where threads run; the copy of a row that kernels cannot read; a random order.
 *
 * A ticket is the number of a piece of work. Threads take tickets in order, and a thread takes a ticket only when its
 * piece may start. So a thread that waits, or that the scheduler has not run yet, holds no ticket, and nobody waits for
 * it. (One exception: a part waits for its turn to add to its partial gradient.) */
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
    int64_t done;   /* pieces finished. In a cache line of its own: who waits reads it all the time */
    int64_t apart_too[7];
    int64_t inside; /* helpers that may touch the caller's arrays */
    int64_t left;   /* helpers that will never touch them again */
    int64_t closed; /* 1: nobody starts another piece */
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

/* A helper enters before it takes tickets. Returns 0, and it must leave, if the office is closed. */
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

/* How many helpers have begun to run so far. */
static inline int64_t has_come(const ticket_office *office)
{
    return __atomic_load_n(&office->left, __ATOMIC_RELAXED) + __atomic_load_n(&office->inside, __ATOMIC_RELAXED);
}

static inline int64_t has_left(const ticket_office *office)
{
    return __atomic_load_n(&office->left, __ATOMIC_SEQ_CST);
}

/* Pieces take microseconds, so a waiting thread spins at first. After 2,000 turns the thread that it waits for has
 * probably lost its CPU, so it offers its own. */
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

/* Wait until a counter is at least so large. Returns 0 if the office was closed first. */
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

/* Of all threads that see a counter at n, one makes it n + 1: for that one, this is 1. */
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

/* Linux may start a new thread on the CPU of its caller, and take milliseconds to see that another CPU is idle. So a
 * helper that finds itself there moves: helper `thread` to the CPU of that number, among the others that it may use. */
static inline void leave_cpu_of_caller(int cpu_of_caller, int thread)
{
#if defined(__linux__)
    cpu_set_t allowed, other;
    if (sched_getcpu() != cpu_of_caller || sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    const int n_others = CPU_COUNT(&allowed) - 1;
    int skipped = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && n_others > 0; cpu++)
        if (cpu != cpu_of_caller && CPU_ISSET(cpu, &allowed) && skipped++ == (thread - 1) % n_others) {
            CPU_ZERO(&other);
            CPU_SET(cpu, &other);
            sched_setaffinity(0, sizeof other, &other);
            sched_setaffinity(0, sizeof allowed, &allowed);
            return;
        }
#else
    (void)cpu_of_caller, (void)thread;
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

/* A random order of n items: item i is exchanged with one of those from i on. 64 random bits serve two items: the upper
 * half of their 128-bit product with n - i says with which one, and the lower half is still random enough for the next
 * item. One exchange is likelier than another by n^2 / 2^64 at most. */
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

/* n items of 1, 2, 4 or 8 bytes, `from_stride` and `to_stride` bytes apart; the bytes of each reversed or not */
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
