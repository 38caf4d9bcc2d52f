"""The system calls that a trainer may make: `seccomp.json`, an allow-list of ours for x86-64 and arm64, as text.

It lets through what a program on a CPU or GPU needs and the engine's default does too, with these differences. Each
closes a way to what no other option of the run covers:
- `io_uring_*` is missing (ENOSYS): it does file and network work past every other filter, and its bugs are many.
- `ptrace`, `process_vm_*`, `pidfd_getfd`, `kcmp` are missing: a trainer has no other process's memory to read.
- `socket` is let through for local, IPv4, IPv6 and routing-table sockets only. A rule "not AF_VSOCK" would compare 64
  bits where the kernel looks at 32, and no network option covers a vsock to the machine's hypervisor.
- Only the 64-bit way in: through the 32-bit one `socketcall` hides its arguments from a filter.
- New namespaces are refused by `clone`'s flags; `clone3` hides its own in memory and is ENOSYS, so that C libraries
  take `clone`.
- What a capability would open in the engine's default stays shut, for a trainer has none: mounts, modules, the clock,
  `bpf`, `perf_event_open`, `userfaultfd`, `keyctl`, `chroot`, `reboot`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

PROFILE = Path(__file__).with_name("seccomp.json")


@cache
def seccomp_profile() -> str:
    """The profile as the engine takes it in a security option: JSON in one line."""
    return json.dumps(json.loads(PROFILE.read_text(encoding="utf-8")), separators=(",", ":"))
