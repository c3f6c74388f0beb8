"""Whether a tick can begin when it should: rights to real-time scheduling, sleep states, and how late waking up is."""

from __future__ import annotations

import getpass
import os
import threading
import time

from robot.checks import Host, Look, Seen

PERIOD_NS, WAKES = 2_000_000, 100
"""A control loop of 500 Hz for a fifth of a second."""
LATE_NS = 500_000
"""Waking up later than a quarter of a period is worth a word."""
DEEP_US = 100
"""A sleep state that takes so long to leave is deep [us]."""
_SYS_NICE, _IPC_LOCK = 23, 14  # bits of capabilities(7)


def _limits(line: str) -> str:
    """The lines of limits.conf(5) that give a right to this user."""
    return f"echo '{_user()} - {line}' | sudo tee -a /etc/security/limits.d/terrafirma.conf, and log in again"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "root"


def scheduler(host: Host) -> Seen:
    """Whether a thread of ours gets SCHED_FIFO, by trying."""
    if not hasattr(os, "sched_setscheduler"):
        return Seen("this system has no SCHED_FIFO")
    refused: list[OSError] = []

    def ask() -> None:  # of a thread of its own, which ends: this one stays as it is
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    kernel = "a real-time kernel" if host.text("sys/kernel/realtime") == "1" else "no real-time kernel"
    if refused:
        return Seen(f"SCHED_FIFO is refused ({refused[0].strerror}), {kernel}", _limits("rtprio 90"))
    share = host.text("proc/sys/kernel/sched_rt_runtime_us")
    return Seen(f"SCHED_FIFO is granted, {kernel}" + (f", {share} µs of each second" if share else ""))


def memory(host: Host) -> Seen:
    """Whether all memory may be locked: by the right to it, or without a limit."""
    try:
        import resource
    except ImportError:
        return Seen("this system has no limits to look at")
    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if _may(host, _IPC_LOCK) or soft == resource.RLIM_INFINITY:
        return Seen("may be locked")
    return Seen(f"{soft // 1024} KiB may be locked, which is too little", _limits("memlock unlimited"))


def _may(host: Host, bit: int) -> bool:
    """Whether this process has a capability."""
    lines = dict(line.partition(":")[::2] for line in host.text("proc/self/status").splitlines())
    return bool(int(lines.get("CapEff", "0").strip() or "0", 16) >> bit & 1)


def idle(host: Host) -> Seen:
    """How deep a core sleeps between two ticks.

    In a virtual machine a core that halts is taken away by the host, and comes back when the host likes: with
    guest_halt_poll_ns=0 deadlines 2 ms apart were up to 10 ms late, and 0.1 ms with polling on.
    """
    driver = host.text("sys/devices/system/cpu/cpuidle/current_driver")
    if driver == "haltpoll":
        polled = host.text("sys/module/haltpoll/parameters/guest_halt_poll_ns")
        if polled == "0":
            fix = "echo 200000 | sudo tee /sys/module/haltpoll/parameters/guest_halt_poll_ns"
            return Seen("a virtual machine whose cores halt at once (haltpoll, guest_halt_poll_ns=0)", fix)
        return Seen(f"a virtual machine whose cores poll {polled or 'some'} ns before they halt (haltpoll)")
    slow = [
        f"{host.text(f'{state}/name')} {us} µs"
        for path in host.found("sys/devices/system/cpu/cpu0/cpuidle/state*")
        if (state := str(path.relative_to(host.root)))
        and host.text(f"{state}/disable") != "1"
        and (us := int(host.text(f"{state}/latency") or 0)) >= DEEP_US
    ]
    if slow:
        fix = "sudo tuned-adm profile latency-performance, or a process that holds 0 in /dev/cpu_dma_latency"
        return Seen(f"cores sleep deeply ({', '.join(slow)} to wake up)", fix)
    return Seen(f"no deep sleep ({driver if driver not in ('', 'none') else 'no idle driver'})")


def frequency(host: Host) -> Seen:
    """Whether cores keep their clock up."""
    governor = host.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor in ("", "performance"):
        return Seen(governor or "not told by this system")
    fix = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    return Seen(f"governor {governor}: cores slow down between ticks", fix)


def wake_up(host: Host) -> Seen:
    """How late this process wakes up at deadlines, without any right to real time."""
    late = []
    deadline = time.perf_counter_ns()
    for _ in range(WAKES):
        deadline += PERIOD_NS
        time.sleep(max(0, deadline - time.perf_counter_ns()) * 1e-9)
        late.append(time.perf_counter_ns() - deadline)
        deadline = max(deadline, time.perf_counter_ns() - PERIOD_NS)  # one long sleep is one late wake-up
    late.sort()
    told = f"of {WAKES} wake-ups {1e-6 * PERIOD_NS:g} ms apart half were within {1e-6 * late[WAKES // 2]:.2f} ms, "
    told += f"the latest {1e-6 * late[-1]:.2f} ms late"
    if late[-1] <= LATE_NS:
        return Seen(told)
    return Seen(told, "mend what stands above, close other programs, and give run realtime=true cpu=N")


LOOKS: dict[str, Look] = {
    "real-time scheduling": scheduler,
    "locked memory": memory,
    "idle states": idle,
    "clock rate": frequency,
    "waking up": wake_up,
}
