"""ExifTool, the reference that metadata is written and read back with: another implementation."""

import json
import shutil
import subprocess

import pytest

needed = pytest.mark.skipif(
    shutil.which("exiftool") is None,
    reason="exiftool is not installed: apt-get install libimage-exiftool-perl",
)

# What is said of the file, not in it.
_NOT_INSIDE = ("System", "File", "ExifTool", "Composite")


def write(paths, *arguments):
    """Write tags into files."""
    _run("-q", "-m", "-overwrite_original", *arguments, *map(str, paths))


def tags(*paths):
    """Read all tags of each file, as "group:name", numbers as they are; a dictionary for each."""
    out = _run("-j", "-a", "-G1", "-n", "-struct", *map(str, paths))
    return [
        {
            name: value
            for name, value in found.items()
            if ":" in name and name.partition(":")[0] not in _NOT_INSIDE
        }
        for found in json.loads(out)
    ]


def _run(*arguments):
    done = subprocess.run(["exiftool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
