"""Processors that a process may use, with made-up control groups as Docker, Kubernetes and systemd set them."""

import os

import pytest

from simam_repro import processors as module
from simam_repro.cli import launch, process
from simam_repro.cli.commands import sweep
from simam_repro.processors import cgroup_limit, processors

V2 = "30 23 0:26 {top} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {top} {point} rw,relatime shared:9 - cgroup cgroup rw,{controllers}"


@pytest.fixture
def machine(tmp_path):
    """machine(mounts, groups, {file: text}) -> what stands for /."""

    def make(mounts, groups, files):
        written = {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **files}
        for name, text in written.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path

    return make


def v2(machine, group, files, top="/", point="/sys/fs/cgroup"):
    return machine(V2.format(top=top, point=point), f"0::{group}", files)


@pytest.mark.parametrize(
    ("text", "limit"), [("150000 100000", 1.5), ("50000 100000", 0.5), ("max 100000", None), ("400000 100000", 4)]
)
def test_version_2(machine, text, limit):
    assert cgroup_limit(v2(machine, "/", {"sys/fs/cgroup/cpu.max": text})) == limit


def test_the_strictest_of_nested_groups(machine):
    files = {
        "sys/fs/cgroup/system.slice/cpu.max": "300000 100000",
        "sys/fs/cgroup/system.slice/a.service/cpu.max": "max 100000",
        "sys/fs/cgroup/system.slice/a.service/inner/cpu.max": "800000 100000",
        "sys/fs/cgroup/system.slice/b.service/cpu.max": "100000 100000",  # another's
    }
    assert cgroup_limit(v2(machine, "/system.slice/a.service/inner", files)) == 3


def test_a_container_that_sees_the_name_its_host_gives_it(machine):
    files = {"sys/fs/cgroup/cpu.max": "200000 100000"}
    for group in ("/docker/abc", "/docker/abc/inner", "/", "/elsewhere"):
        assert cgroup_limit(v2(machine, group, files, top="/docker/abc")) == 2


def test_a_mount_point_with_a_space(machine):
    assert cgroup_limit(v2(machine, "/", {"my groups/cpu.max": "100000 100000"}, point="/my\\040groups")) == 1


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
@pytest.mark.parametrize(("quota", "limit"), [("-1", None), ("250000", 2.5)])
def test_version_1(machine, controllers, quota, limit):
    mounts = [
        V1.format(top="/", point="/sys/fs/cgroup/memory", controllers="memory"),
        V1.format(top="/", point="/sys/fs/cgroup/cpu", controllers=controllers),
        V2.format(top="/", point="/sys/fs/cgroup/unified"),
    ]
    files = {
        "sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us": quota,
        "sys/fs/cgroup/cpu/pod/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/memory/cpu.cfs_quota_us": "100000",  # not there, but were it
        "sys/fs/cgroup/memory/cpu.cfs_period_us": "100000",
    }
    groups = f"5:memory:/\n2:{controllers}:/pod\n1:cpuset:/\n0::/"
    assert cgroup_limit(machine("\n".join(mounts), groups, files)) == limit


def test_version_1_nested(machine):
    base = "sys/fs/cgroup/cpu/kubepods"
    files = {
        f"{base}/cpu.cfs_quota_us": "400000", f"{base}/cpu.cfs_period_us": "100000",
        f"{base}/pod7/cpu.cfs_quota_us": "60000", f"{base}/pod7/cpu.cfs_period_us": "20000",
    }  # fmt: skip
    mounts = V1.format(top="/", point="/sys/fs/cgroup/cpu", controllers="cpu")
    assert cgroup_limit(machine(mounts, "2:cpu:/kubepods/pod7", files)) == 3


def test_no_control_groups(machine, tmp_path):
    assert cgroup_limit(tmp_path / "nothing") is None
    assert cgroup_limit(machine("23 1 8:1 / / rw - ext4 /dev/sda1 rw", "0::/", {})) is None


@pytest.mark.parametrize(
    ("limit", "bound_to", "count"), [(None, 8, 8), (1.5, 8, 2), (0.2, 8, 1), (3, 8, 3), (16, 8, 8), (2.5, 2, 2)]
)
def test_limits_count(monkeypatch, limit, bound_to, count):
    monkeypatch.setattr(module, "cgroup_limit", lambda: limit)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound_to)), raising=False)
    assert processors() == count


def test_threads_and_automatic_processes_go_by_the_limit(monkeypatch):
    monkeypatch.setattr(module, "cgroup_limit", lambda: 3.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    environment = {}
    process.set_threads(environment)
    assert environment == {name: "3" for name in process.THREADS}
    assert launch.automatic_nproc("cpu") == 3
    assert sweep.processors is processors  # of --jobs auto
