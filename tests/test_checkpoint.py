import resource
from contextlib import contextmanager

import numpy as np
import pytest

from pipeline import checkpoint
from pipeline.checkpoint import CheckpointError

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, np.int64), np.zeros(0)]


@contextmanager
def files_of_at_most(size: int):
    """What a full disk does to a process, done by the system itself."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, ARRAYS, {"step": 3, "network": "unet"})
    arrays, facts = checkpoint.read(path)
    assert facts == {"step": 3, "network": "unet"}
    for found, array in zip(arrays, ARRAYS, strict=True):
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_a_disk_that_fills_leaves_the_last_good_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, ARRAYS, {"step": 3})
    with (
        files_of_at_most(5_000),
        pytest.raises(CheckpointError, match=r"cannot save.*make room"),
    ):
        checkpoint.save(path, [np.zeros(10_000)], {"step": 4})
    assert checkpoint.read(path)[1] == {"step": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]


def test_half_a_checkpoint_is_told_as_broken(tmp_path):
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, ARRAYS, {"step": 3})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="broken"):
        checkpoint.read(path)
    with pytest.raises(CheckpointError, match=r"no checkpoint .*other\.npz"):
        checkpoint.read(tmp_path / "other.npz")


def test_a_checkpoint_of_another_training_is_told_by_what_differs(tmp_path):
    path = tmp_path / "checkpoint.npz"
    facts = {"network": "unet", "rate": 0.1}
    checkpoint.require_same(path, facts, dict(facts))
    told = "network was 'unet', not 'gan-colorizer', rate was 0.1, not 0.2"
    with pytest.raises(CheckpointError, match=told):
        checkpoint.require_same(path, facts, {"network": "gan-colorizer", "rate": 0.2})
