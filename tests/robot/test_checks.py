"""What doctor looks at: on this machine every look answers; on machines made of files each trouble has its command."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from robot import cli
from robot.checks import Host, Seen, graphics, ports, realtime, recording, software
from robot.config import ConfigError

SUBJECTS = (software, graphics, realtime, recording, ports)


def host(tmp_path: Path, **files: str) -> Host:
    """A machine whose kernel tells these: `sys__class__x` is the file sys/class/x."""
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return Host(tmp_path, tmp_path)


def test_every_look_answers_here_in_seconds(tmp_path: Path) -> None:
    begin = time.process_time()
    for subject in SUBJECTS:
        for name, look in subject.LOOKS.items():
            seen = look(Host(tmp_path))
            assert isinstance(seen, Seen) and seen.detail and "\n" not in seen.detail + seen.fix, name
    assert time.process_time() - begin < 3.0
    assert not list(tmp_path.iterdir())  # what was written to try the disk is gone


def test_every_look_answers_where_the_kernel_tells_nothing(tmp_path: Path) -> None:
    for subject in (realtime, recording, ports):
        for name, look in subject.LOOKS.items():
            assert look(Host(tmp_path, tmp_path / "nothing")).detail, name


CPUIDLE = "sys__devices__system__cpu__cpuidle__current_driver"
STATE = "sys__devices__system__cpu__cpu0__cpuidle__state3__"
POLL = "sys__module__haltpoll__parameters__guest_halt_poll_ns"
LATENCY = "sys__bus__usb-serial__devices__ttyUSB0__latency_timer"
CLOCK = "sys__devices__system__clocksource__clocksource0__"


@pytest.mark.parametrize(
    ("look", "files", "told", "fix"),
    [
        (realtime.idle, {CPUIDLE: "haltpoll", POLL: "0"}, "halt at once", "echo 200000 | sudo tee /sys/module"),
        (realtime.idle, {CPUIDLE: "haltpoll", POLL: "200000"}, "poll 200000 ns", ""),
        (realtime.idle, {CPUIDLE: "intel_idle", f"{STATE}name": "C6", f"{STATE}latency": "133"}, "C6 133 µs to wake",
         "/dev/cpu_dma_latency"),
        (realtime.idle, {CPUIDLE: "intel_idle", f"{STATE}name": "C6", f"{STATE}latency": "133", f"{STATE}disable": "1"},
         "no deep sleep (intel_idle)", ""),
        (realtime.frequency, {"sys__devices__system__cpu__cpu0__cpufreq__scaling_governor": "powersave"}, "powersave",
         "echo performance | sudo tee"),
        (ports.can, {"sys__class__net__can0__type": "280", "sys__class__net__can0__operstate": "down",
                     "sys__class__net__eth0__type": "1"}, "can0 down", "sudo ip link set can0 up type can"),
        (ports.can, {"sys__class__net__can0__type": "280", "sys__class__net__can0__operstate": "up"}, "can0 up", ""),
        (ports.can, {"sys__class__net__eth0__type": "1"}, "no interface", ""),
        (ports.serial, {"dev__ttyUSB0": "", LATENCY: "16"}, "holds bytes back for 16 ms", "echo 1 | sudo tee /sys/bus"),
        (ports.serial, {"dev__ttyUSB0": "", LATENCY: "1"}, "ttyUSB0", ""),
        (ports.cameras, {"dev__video0": "", "dev__video1": "", "sys__class__video4linux__video0__name": "Webcam",
                         "sys__class__video4linux__video1__index": "1"}, "video0 (Webcam)", ""),
        (recording.source, {f"{CLOCK}current_clocksource": "hpet", f"{CLOCK}available_clocksource": "tsc hpet"}, "hpet",
         "echo tsc | sudo tee"),
        (recording.source, {f"{CLOCK}current_clocksource": "acpi_pm", f"{CLOCK}available_clocksource": "acpi_pm"},
         "acpi_pm", "boot with tsc=reliable"),
    ],
)  # fmt: skip
def test_each_trouble_has_its_command(look, files: dict[str, str], told: str, fix: str, tmp_path: Path) -> None:
    seen = look(host(tmp_path, **files))
    assert told in seen.detail
    assert fix in seen.fix if fix else not seen.fix


def test_a_port_of_another_group_tells_which_to_join(tmp_path: Path) -> None:
    import grp

    port = tmp_path / "ttyACM0"
    port.touch()
    group = grp.getgrgid(port.stat().st_gid).gr_name
    fix = ports._right_to([port], may=lambda path, mode: False)
    assert fix.startswith(f"sudo usermod -aG {group} $USER" if group != "root" else f"sudo chmod a+rw {port}")
    assert ports._right_to([port], may=lambda path, mode: True) == ""


def test_rights_that_are_refused_tell_the_line_of_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8 << 20, 8 << 20))
    machine = host(tmp_path, proc__self__status="CapEff:\t0000000000000000")
    scheduler, memory = realtime.scheduler(machine), realtime.memory(machine)
    assert "refused" in scheduler.detail and "rtprio 90' | sudo tee -a /etc/security/limits.d/" in scheduler.fix
    assert "8192 KiB" in memory.detail and "memlock unlimited" in memory.fix
    granted = host(tmp_path / "b", proc__self__status=f"CapEff:\t{1 << 14:016x}")
    assert realtime.memory(granted) == Seen("may be locked")


def test_whether_physics_can_run_on_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(software, "installed", lambda module: False)
    assert software.warp(host(tmp_path)).fix == "pip install 'terrafirma[gpu]'"
    monkeypatch.setattr(software, "installed", lambda module: True)
    monkeypatch.setattr(software.metadata, "version", lambda package: "3.17.0")
    assert "no CUDA device: backend=warp will be refused" in software.warp(host(tmp_path)).detail
    assert software.warp(host(tmp_path, dev__nvidia0="")).detail == "MuJoCo Warp 3.17.0, and a CUDA device"


def test_a_packages_lack_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(software, "installed", lambda module: False)
    for name in software.EXTRAS:
        assert f"'terrafirma[{name}]'" in software.LOOKS[f"extra {name}"](Host(tmp_path)).fix
    assert "not installed" in software.torch(Host(tmp_path)).detail


def test_an_engine_that_is_missing_fails_what_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from robot.checks import cluster

    monkeypatch.setattr(cluster, "installed", lambda module: False)
    assert cli.main(["doctor", "scale=ray", f"out={tmp_path}"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert "FAIL  scale ray: the package 'ray' is not installed. Mend: pip install 'terrafirma[scale]'" in lines
    assert all(line.startswith(("ok  ", "note", "FAIL")) for line in lines[:-1])
    assert cli.main(["doctor", "scale=rey", f"out={tmp_path}"]) == 2


def test_a_cluster_that_is_asked_for_must_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from robot.checks import cluster

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setattr(cluster, "installed", lambda module: True)
        monkeypatch.setattr(cluster.metadata, "version", lambda package: "2.60.0")
        assert cli.main(["doctor", "scale=ray", f"address={address}", f"out={tmp_path}"]) == 2
        [told] = [line for line in capsys.readouterr().out.splitlines() if "scale ray" in line]
        assert f"{address}: no Ray cluster answers there" in told and f"`ray start --address={address}` on this" in told
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigError, match="RAY_ADDRESS"):
            cluster.find("auto")
    with pytest.raises(ConfigError, match="HOST:PORT"):
        cluster.find("somewhere")


def test_a_stale_note_of_a_cluster_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robot.checks import cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "CURRENT", tmp_path / "ray_current_cluster")
    assert cluster.find("auto") is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray_current_cluster").write_text(address + "\n")
        assert cluster.find("auto") == address
    assert cluster.find("auto") is None


def test_too_little_shared_memory_and_other_versions_are_told(tmp_path: Path) -> None:
    from robot.checks import cluster

    with pytest.raises(ConfigError, match="/dev/shm has 0 MiB free"):
        cluster.shared_memory(host(tmp_path))
    assert "other versions" in cluster.refused("h:1", "Version mismatch: The cluster was started with: Ray: 2.9")
    assert "RAY_AUTH_MODE=token" in cluster.refused("h:1", "RPC error: InvalidAuthToken: missing")
    assert "cannot be joined" in cluster.refused("h:1", "no raylet")
