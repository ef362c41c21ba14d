"""How many CPUs this process may use: its affinity, and the quotas of its control groups."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator

# More threads than this help nobody; the results do not depend on the number.
MAX_THREADS = 1024


@functools.cache
def usable_cpus() -> int:
    """Return the number of CPUs this process may use: its affinity, or less by a cgroup's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = min(_cgroup_quotas(), default=math.inf)
    return max(1, min(count, MAX_THREADS, math.ceil(quota) if quota < math.inf else count))


if hasattr(os, "register_at_fork"):
    # A child may be given other CPUs than its parent.
    os.register_at_fork(after_in_child=usable_cpus.cache_clear)


def _cgroup_quotas(
    membership: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup"
) -> Iterator[float]:
    """Yield every CPU quota, in CPUs, on the way from this process's control groups to the root.

    A line of `membership` is "hierarchy:controllers:/group"; hierarchy 0 is version 2.
    Inside a container the group may name a folder of the host; its parents up to the mount exist.
    """
    try:
        lines = _read(membership).splitlines()
    except OSError:
        return
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        version_2 = hierarchy == "0"
        if not version_2 and "cpu" not in controllers.split(","):
            continue
        root = mount if version_2 else f"{mount}/cpu"
        parts = [part for part in group.split("/") if part]
        for depth in range(len(parts), -1, -1):
            folder = "/".join((root, *parts[:depth]))
            quota = _version_2_quota(folder) if version_2 else _version_1_quota(folder)
            if quota is not None and quota > 0:
                yield quota


def _version_2_quota(folder: str) -> float | None:
    """Read "quota period" (microseconds) or "max period" of a version 2 group."""
    try:
        quota, period = _read(f"{folder}/cpu.max").split()
        return float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None  # no such file, or "max": no limit. float("max") is a ValueError


def _version_1_quota(folder: str) -> float | None:
    """Read the two files of a version 1 group; a quota of -1 means no limit."""
    try:
        quota = float(_read(f"{folder}/cpu.cfs_quota_us"))
        return quota / float(_read(f"{folder}/cpu.cfs_period_us"))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
