"""With what, where and by whom a job is run: what its ledger tells that decides no derivative."""

import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

# Set by whoever starts a container: no process can tell from inside which image it is.
CONTAINER = "HELIOGRAPH_CONTAINER_DIGEST"

_PACKAGES = (
    "heliograph",
    "apache-beam",
    "tensorflow",
    "numpy",
    "pillow",
    "opencv-python-headless",
)


def versions() -> dict[str, str]:
    """Name the versions of what decides the result."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def environment(runner: str | None, operator: str | None) -> dict[str, Any]:
    """Tell what a job is run with, once for the whole of it; None where it is not known.

    Args:
        runner: Beam's name of it; None for the local one.
        operator: who runs it, as they said.
    """
    return {
        "id": str(uuid.uuid4()),
        "started": moment(time.time()),
        "operator": operator,
        "runner": runner or "FnApiRunner",
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "revision": _revision(),
        "container": os.environ.get(CONTAINER) or None,
    }


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def moment(seconds: float) -> str:
    """Write a time in seconds since 1970 as ISO 8601 has it, in UTC, with milliseconds."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{thousandths:03}Z"


def worker() -> dict[str, str]:
    """Name the host and the device that this process computes on."""
    return {"host": socket.gethostname(), "device": _device("tensorflow" in sys.modules)}


@functools.cache
def _device(with_tensorflow: bool) -> str:
    """Name what models run on; without TensorFlow none has, and it is the processor."""
    if with_tensorflow:
        import tensorflow as tf

        for found in tf.config.list_physical_devices("GPU"):
            details = tf.config.experimental.get_device_details(found)
            return str(details.get("device_name", found.name))
    return _processor()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


@functools.cache
def _revision() -> str | None:
    """Name the git revision of a source tree, with `-dirty` where it was changed since; None of an
    installed distribution, whose version says it.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40")
    try:
        done = subprocess.run(  # noqa: S603  nothing of it is anybody's input
            command, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or not our tree
    return done.stdout.strip() or None
