#!/usr/bin/env python3
"""Reads every #include "…" under src and fails when one points up: the table says which folder may use which."""
import pathlib
import re
import sys

# Folder → what it may include besides itself. The order is from the ground up (docs/architecture.md).
MAY_USE = {
    "base": [],
    "http": ["base"],
    "link": ["base", "http"],
    "worker/pull": ["base", "http"],
    "worker/porter": ["base"],
    "worker/probe": ["base", "http"],
    "worker/clone": ["base", "http"],
    "worker/smb": ["base"],
    "control/store": ["base", "http"],
    "control/vault": ["base", "control/store"],
    "control/auth": ["base", "control/store"],
    "control/arm": ["base", "http", "control/store", "control/auth"],
    "control/schedule": ["base", "control/store", "link"],
    "control/dns": ["base", "control/store"],
    "control/providers": ["base", "http", "link", "control/store", "control/vault", "control/auth", "control/arm", "control/schedule",
                          "control/dns"],
    "node/spawn": ["base"],
    "node/image": ["base", "node/spawn", "worker/pull/reference.h", "worker/pull/digest.h"],
    "node/network": ["base"],
    "node/volume": ["base", "node/spawn"],
    "node/runtime": ["base"],
    "node/agent": ["base", "link", "node/image", "node/network", "node/runtime", "node/volume"],
    "main": ["base", "http", "link", "control", "node"],
    "cli": ["base", "http", "worker/pull/reference.h", "control", "node", "main"],
}

root = pathlib.Path(__file__).resolve().parent.parent / "src"
wrong = []
files = 0
for path in sorted(root.rglob("*.[ch]")):
    name = path.relative_to(root).as_posix()
    folder = max((f for f in MAY_USE if name.startswith(f + "/")), key=len, default=None)
    if folder is None:
        wrong.append(f"{name}: its folder is not in the table of layers")
        continue
    files += 1
    for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M):
        allowed = [folder, *MAY_USE[folder]]
        # Two providers never use each other: what they share lives below.
        if folder == "control/providers":
            allowed[0] = "/".join(name.split("/")[:3])
        # A test may use a fake or a backend of any layer below.
        if not any(included == a or included.startswith(a + "/") for a in allowed):
            wrong.append(f"{name} includes {included}, which is not below {folder}")
print("\n".join(wrong) or f"{files} files: every include points down")
sys.exit(bool(wrong) or files == 0)
