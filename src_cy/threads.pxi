# How many threads a pass gets, and the team that does its pieces. Included by _kernels.pyx.

# ---- how many threads ---------------------------------------------------------------------------

# What threads cost where the process may use two CPUs, in seconds.
# To start a helper: if its CPU has just been at work, this takes 12 us of the caller's time, and 30 us until the helper
# works; after a pause, 50 to 80 us and 115 to 180 us.
cdef double START = 100e-6
# To wait for the others and fetch what they have written: 4 to 7 us, where two threads share 256 rows of 784 pixels.
cdef double HAND_OVER = 5e-6
# Where there are more CPUs, a start costs so many times as much, as the helper's CPU has slept: on sixteen, 1 ms of
# work without waits took as long on two threads as on one. A wait costs no more there: an epoch of 235 batches took
# 9.9, 7.8 and 11.2 ms on one, two and four threads, which is 6 us for each helper and wait.
cdef double MORE_CPUS = 2.0

# What work costs one thread: measured on Zen 4 with AVX2 and AVX-512, right within a tenth.
cdef double FLOPS = 100e9          # FLOP of float32 in a second
cdef double BANDWIDTH = 20e9       # bytes of X in a second
cdef double LOGIT = 0.7e-9         # seconds for the softmax of a float32

cdef double costs_count = 1.0      # 0, in tests: threads cost nothing
cdef int64_t n_helpers = 0         # started so far, by all calls


cdef int threads_that_pay(int n_threads, Py_ssize_t n_pieces, Py_ssize_t n_others, double seconds,
                          double n_waits) noexcept nogil:
    """The number of threads, at most n_threads, that finish first. One thread alone would take `seconds`.

    Half of the work is cut into n_pieces, the other half into n_others (the same, if all pieces are alike). The thread
    with the most pieces keeps the others waiting, and a thread without a piece is not started. Helpers are started one
    after the other, and all threads wait for each other n_waits times. No order of a sum may depend on the answer.
    """
    cdef double least = seconds, cost = costs_count * (START + n_waits * HAND_OVER), here
    cdef int n, best = 1
    if n_threads < 2 or seconds <= 2 * cost:
        return 1
    if usable_cpus() > 2:
        cost += costs_count * (MORE_CPUS - 1) * START
    for n in range(2, <int>min(n_threads, max(n_pieces, n_others), 1 << 16) + 1):
        here = (n - 1) * cost
        if here >= least:
            break
        here += seconds / 2 * (<double>ceil_div(n_pieces, n) / n_pieces + <double>ceil_div(n_others, n) / n_others)
        if here < least:
            least, best = here, n
    return best


# ---- the team -----------------------------------------------------------------------------------

cdef double patience = 250e-6      # a wait that takes longer than this and four pieces together: a CPU was lost
cdef double offer_every = 200e-6   # a helper offers its CPU to other processes so often
cdef double least_alone = 0.01     # how long nobody helps after a CPU was lost:
cdef double most_alone = 0.16      # twice as long each time if it happens soon again, up to this
cdef double soon_again = 0.5       # soon: within so many seconds after such a while
cdef double alone_for = least_alone
cdef double alone_until = 0.0      # on the clock of monotonic_seconds


cdef void go_alone(double now) noexcept nogil:
    """Send the helpers away for a while. If a CPU is lost soon after such a while, the next one is twice as long."""
    global alone_for, alone_until
    if now < alone_until:
        return
    alone_for = min(2 * alone_for, most_alone) if now < alone_until + soon_again else least_alone
    alone_until = now + alone_for


cdef class Team:
    """Pieces of work, which the calling thread and its helpers take by their tickets.

    If a busy process takes the CPU of a thread that holds a ticket, all others wait for some milliseconds. So a helper
    yields between tickets: a process that wants a CPU takes it then, when nobody waits. The caller yields, too, until
    all helpers have come, because Linux may have started one on the caller's CPU. A thread that finds that a CPU was
    lost nevertheless sends the helpers away, and for a while the caller works alone.
    """
    cdef ticket_office office
    cdef int64_t n_tickets
    cdef int64_t n_started               # helpers, in this pass
    cdef int n_threads, cpu_of_caller

    cdef void piece(self, int64_t ticket, int thread) noexcept nogil:
        """Do a piece of work. The caller is thread 0; helpers are 1, 2, ..."""

    cdef int64_t awaits(self, int64_t ticket) noexcept nogil:
        """How many pieces must be finished before this one may start."""
        return 0

    cdef bint work(self, int thread, double until) noexcept nogil:
        """Take tickets until time is up (False), or none are left, or this thread is to leave (True)."""
        cdef int64_t ticket, awaited, n_done = 0
        cdef double now = monotonic_seconds(), offered = now if thread > 0 else 0.0, began, busy = 0.0
        while now < until:
            if now > offered + offer_every and (thread > 0 or has_come(&self.office) < self.n_started):
                offered = now
                sched_yield()
            ticket = next_ticket(&self.office)
            awaited = self.awaits(ticket)
            if ticket >= self.n_tickets or not wait_for(&self.office, &self.office.done, awaited):
                return True
            began = monotonic_seconds()
            if n_done > 0 and awaited > 0 and began - now > patience + 4 * busy / n_done:
                go_alone(began)
            if thread > 0 and began < alone_until:
                return True
            now = began
            if claimed(&self.office.next, ticket):
                self.piece(ticket, thread)
                finish_ticket(&self.office)
                now = monotonic_seconds()
                busy += now - began
                n_done += 1
        return False

    def help(self, int thread):
        """A helper thread's whole life."""
        with nogil:
            leave_cpu_of_caller(self.cpu_of_caller, thread)
            if enter_office(&self.office):
                self.work(thread, INFINITY)
            leave_office(&self.office)

    cdef void call_helpers(self) except *:
        """Start helpers; but none while earlier ones are still here, or nobody should help, or no piece is left."""
        global n_helpers
        cdef int64_t thread, n_left = self.n_tickets - next_ticket(&self.office)
        if self.n_threads < 2 or has_left(&self.office) < self.n_started or monotonic_seconds() < alone_until:
            return
        self.cpu_of_caller = current_cpu()
        try:
            # Not threading.Thread, whose start() waits until the new thread has been scheduled.
            for thread in range(1, min(n_left, self.n_threads)):
                start_new_thread(self.help, (thread,))
                self.n_started += 1
                n_helpers += 1
        except RuntimeError:
            pass  # no more threads to be had: the same result, later

    cdef int run(self) except -1:
        cdef bint finished = False
        try:
            while not finished:
                self.call_helpers()
                with nogil:
                    finished = self.work(0, monotonic_seconds() + 0.05)
                PyErr_CheckSignals()
            with nogil:
                wait_for(&self.office, &self.office.done, self.n_tickets)
        except BaseException:
            close_office(&self.office)
            with nogil:
                wait_until_empty(&self.office)
            raise
        return 0
