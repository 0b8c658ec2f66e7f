"""deploy/seccomp.json: what a container of the agent may ask the kernel for, and what not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
PROFILE: dict[str, Any] = json.loads((PROJECT / "deploy/seccomp.json").read_text())
RULES: list[dict[str, Any]] = PROFILE["syscalls"]
ALLOWED = {name for rule in RULES if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
HEADER = Path("/usr/include/asm-generic/unistd.h")
EPERM, ENOSYS = 1, 38
#: linux/sched.h: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
#: Of x86-64 only, or younger than the headers of Debian 12 and Ubuntu 22.04.
ELSEWHERE = """
access alarm arch_prctl chmod creat dup2 epoll_create epoll_wait eventfd fork getdents getpgrp getrlimit
inotify_init link lstat map_shadow_stack mkdir newfstatat open pause pipe poll readlink rename rmdir select
signalfd stat symlink time unlink vfork fchmodat2 futex_requeue futex_wait futex_waitv
futex_wake
"""


def test_what_is_not_named_is_refused() -> None:
    assert (PROFILE["defaultAction"], PROFILE["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", EPERM)
    assert "bpf" in ALLOWED
    dangerous = "add_key delete_module finit_module fsopen init_module io_uring_setup kexec_load keyctl mount"
    dangerous += (
        " move_mount open_by_handle_at perf_event_open personality pivot_root process_vm_writev ptrace"
    )
    dangerous += " reboot request_key setns settimeofday swapon sysfs syslog umount2 unshare userfaultfd"
    assert not ALLOWED & {*dangerous.split(), "syscall", "clone3"}


def test_no_name_is_there_twice() -> None:
    names = [name for rule in RULES for name in rule["names"]]
    assert len(names) == len(set(names))


def test_no_process_gets_namespaces_of_its_own() -> None:
    (clone,) = (rule for rule in RULES if "clone" in rule["names"])
    assert clone["names"] == ["clone"]
    assert clone["args"] == [{"index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    (newer,) = (rule for rule in RULES if "clone3" in rule["names"])
    assert (newer["action"], newer["errnoRet"]) == ("SCMP_ACT_ERRNO", ENOSYS)


@pytest.mark.skipif(not HEADER.exists(), reason="no linux-libc-dev")
def test_names_are_the_kernels() -> None:
    known = set(re.findall(r"^#define __NR(?:3264)?_(\w+)", HEADER.read_text(), re.MULTILINE))
    assert ALLOWED - known - set(ELSEWHERE.split()) == set()
