"""The smallest system that a container can run: one binary and an endless sleep."""

import io
import tarfile
import time
from pathlib import Path

# From Debian's package busybox-static.
BUSYBOX = Path("/bin/busybox")
INIT = b"""#!/bin/sh
# A clean end is asked for by this signal.
trap 'exit 0' PWR
while :; do busybox sleep 3600 & wait $!; done
"""
METADATA = b"architecture: x86_64\ncreation_date: 1767225600\n"


def archive():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as image:
        add(image, "metadata.yaml", METADATA)
        for folder in ["rootfs", *(f"rootfs/{name}" for name in ("bin", "sbin", "dev", "etc", "proc", "run", "sys", "tmp"))]:
            add(image, folder, kind=tarfile.DIRTYPE)
        add(image, "rootfs/bin/busybox", BUSYBOX.read_bytes())
        add(image, "rootfs/bin/sh", kind=tarfile.SYMTYPE, target="busybox")
        add(image, "rootfs/sbin/init", INIT)
    return packed.getvalue()


def add(image, name, content=b"", kind=tarfile.REGTYPE, target=""):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.type, entry.linkname, entry.mtime = len(content), 0o755, kind, target, time.time()
    image.addfile(entry, io.BytesIO(content))
