"""Machine probes: processor, cores, memory and file descriptors, and how much of them our processes use."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

try:
    from numpy._core._multiarray_umath import __cpu_features__ as _cpu_features  # asked of the processor, not of a file
except ImportError:  # numpy does not promise it
    _cpu_features = {}

if sys.platform != "win32":
    import resource

_ENOUGH_DESCRIPTORS = 4096


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine as a report names it; no host name, nothing that identifies a person."""

    system: str
    processor: str
    kernels: str  # the instruction set that matrix kernels run with, such as ``x86-64 avx512-vnni``
    cores: int  # that this process may use
    memory_bytes: int
    python: str

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)


def probe_machine() -> Machine:
    """Ask the machine what it is."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        kernels=find_kernels(),
        cores=usable_cores(),
        memory_bytes=usable_memory(),
        python=platform.python_version(),
    )


_LEVELS = {  # the first whose feature is there; names are numpy's
    "x86-64": {"AVX512VNNI": "avx512-vnni", "AVX512BW": "avx512", "AVX2": "avx2", "SSE42": "sse4.2"},
    "arm64": {"ASIMDDP": "neon-dotprod", "NEON": "neon"},
}


def find_kernels() -> str:
    """Return the instruction set of this processor as far as onnxruntime's matrix kernels differ by it."""
    architecture = {"amd64": "x86-64", "x86_64": "x86-64", "aarch64": "arm64"}.get(platform.machine().lower())
    levels = _LEVELS.get(architecture or platform.machine().lower(), {})
    level = next((name for feature, name in levels.items() if _cpu_features.get(feature)), "")
    if level == "avx2" and _has_avx_vnni():
        level = "avx-vnni"
    return f"{architecture or platform.machine()} {level}".strip()


def saturates(kernels: str) -> bool:
    """Return whether such kernels (`find_kernels`) may add two 8-bit products wrongly.

    x86 with AVX2 or AVX512 and without VNNI multiplies unsigned by signed bytes with ``vpmaddubsw``, which adds two
    neighbouring products in 16 bits and saturates (docs/decisions/0024).
    """
    return kernels in ("x86-64 avx2", "x86-64 avx512")


def _has_avx_vnni() -> bool:
    """Return whether the processor has VNNI without AVX512, which numpy does not report."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\nflags")[2]
    except OSError:
        return False
    known = set(flags.partition("\n")[0].split())
    return (
        "avx_vnni" in known and "avx512f" not in known
    )  # else it is the file of another processor: an emulator's host


def usable_cores() -> int:
    """Count the cores this process may really use: its affinity mask, cut by the cgroup's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    quota = _cgroup_cores()
    return max(1, min(cores, int(quota))) if quota else cores


def usable_memory() -> int:
    """Return the bytes of memory this process may use: the machine's, cut by the cgroup's limit."""
    total = int(psutil.virtual_memory().total)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        return min(total, int(limit))
    except (OSError, ValueError):  # no cgroup, or "max"
        return total


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Seconds of CPU until now, over the cores that this process may use; only differences mean something.

    ``clock`` is the monotonic clock, ``busy`` what all processes took, ``stolen`` what the hypervisor gave to others,
    ``own`` what some processes of ours took, and ``waited`` for how long some task was ready and had no core, where
    Linux reports it.
    """

    clock: float
    cores: int
    busy: float
    stolen: float
    own: float
    waited: float | None


def cpu_times(pids: Iterable[int]) -> CpuTimes:
    """Return the seconds of CPU until now; of ``pids``, our own processes, those that are gone count nothing."""
    every = psutil.cpu_times(percpu=True)
    allowed = os.sched_getaffinity(0) if sys.platform == "linux" else range(len(every))
    mine = [every[core] for core in cores_counted(len(every), allowed)]
    stolen = sum(getattr(one, "steal", 0.0) for one in mine)
    own = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            taken = psutil.Process(pid).cpu_times()
            own += taken.user + taken.system
    kinds = ("user", "nice", "system", "irq", "softirq")  # guests are in the first two
    busy = sum(getattr(one, kind, 0.0) for one in mine for kind in kinds)
    return CpuTimes(time.monotonic(), max(len(mine), 1), busy, stolen, own, _waited())


def cores_counted(listed: int, allowed: Collection[int]) -> list[int]:
    """Return which of the system's ``listed`` counters are of cores that this process may use.

    A container may list its own cores alone, numbered from 0, while those that it may use keep the machine's numbers;
    and a core that is offline is not listed. Where the numbers do not fit each other, all that is listed counts.
    """
    fits = 0 < len(allowed) < listed and all(core < listed for core in allowed)
    return sorted(allowed) if fits else list(range(listed))


def load_average() -> float | None:
    """Return the system's load average of the last minute; ``None`` where it has none, or does not report it."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _waited() -> float | None:
    """Return Linux's pressure stall information of the CPU, in seconds."""
    try:
        some = Path("/proc/pressure/cpu").read_text(encoding="ascii").partition("\n")[0]
        return int(some.rpartition("total=")[2]) / 1e6
    except (OSError, ValueError):
        return None


def peak_memory_bytes(pid: int) -> int | None:
    """Return the highest resident memory the process ever had; ``None`` where the system does not track it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def resident_memory_bytes(pid: int) -> int | None:
    """Return the process's resident memory now; ``None`` when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def process_exists(pid: int) -> bool:
    """Return whether a process with that id runs."""
    return psutil.pid_exists(pid)


def process_started(pid: int) -> float | None:
    """Return when a process was started, in seconds of the system's own clock; ``None`` when there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def free_memory() -> int:
    """Return the bytes of memory that a new process could use now: the machine's, cut by the cgroup's limit."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        lines = Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines()
        kept = dict(line.split() for line in lines)
        return max(0, min(free, limit - used + int(kept.get("inactive_file", 0))))  # a cache of files gives way
    except (OSError, ValueError):  # no cgroup, or no limit
        return free


def descriptors() -> int:
    """Return how many files and connections this process may have open at once."""
    if sys.platform == "win32":
        return sys.maxsize
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def allow_descriptors() -> None:
    """Raise this process's limit of open files and connections to what a server needs, as far as the system lets us."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _cgroup_cores() -> float | None:
    """Return the cgroup's CPU quota in cores: version 2's ``cpu.max``, or version 1's two files."""
    root = Path("/sys/fs/cgroup")
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((root / name).read_text(encoding="ascii") for name in files).split()
            return None if quota in ("max", "-1") else int(quota) / int(period)
        except (OSError, ValueError):
            continue
    return None
