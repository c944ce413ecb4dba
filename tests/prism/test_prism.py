"""Prism gives the bytes of the local runner."""

import json
import os
import subprocess
import sys

from tests.prism.conftest import PRISM
from tests.test_resume import files

JOB = ("--recipe", "jpeg:3+gaussian_noise:2", "--seed", 7, "--batch_size", 2)


def evaluate(archive, out, *options, code=3):
    command = [sys.executable, "-m", "heliograph", "evaluate", archive, out, *JOB, *options]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_the_same_bytes(archive, tmp_path):
    (archive / "broken.png").write_bytes(b"no PNG")
    evaluate(archive, tmp_path / "local")
    prism = ("--runner", "PrismRunner", "--prism_location", os.path.abspath(PRISM))
    evaluate(archive, tmp_path / "prism", *prism)
    assert files(tmp_path / "prism") == files(tmp_path / "local")
    job = json.loads((tmp_path / "prism" / "ledger" / "job.json").read_text())
    assert job["environment"]["runner"] == "PrismRunner"
    assert "done already; to do: none" in evaluate(archive, tmp_path / "prism", *prism)
