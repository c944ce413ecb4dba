import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tests import flink_rest, saved_models

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Run = Callable[..., subprocess.CompletedProcess]

# Files that take longest go first, since a file is one process's: what is left in the end is short.
_LONG = (
    "test_training.py",
    "test_job.py",
    "test_degradations.py",
    "test_object_stores.py",
    "test_convert.py",
    "test_foreign_models.py",
    "test_crash.py",
    "test_networks.py",
    "test_stains.py",
    "test_resume.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture
def rest():
    """A Flink cluster's REST interface; its address is `rest.master`."""
    with flink_rest.answering() as state:
        yield state


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder of SavedModels, by the names of the functions in tests/saved_models.py."""
    folder = tmp_path_factory.mktemp("models")
    for build in (
        saved_models.identity,
        saved_models.invert,
        saved_models.blur,
        saved_models.constant_chroma,
        saved_models.colour_in_the_light,
        saved_models.not_a_number_in_the_dark,
        saved_models.half_size,
        saved_models.negative_nchw_uint8,
        saved_models.fill_with_mean,
    ):
        build(folder / build.__name__)
    return folder


@pytest.fixture(scope="session")
def photographs() -> dict[str, np.ndarray]:
    """Real photographs, uint8 RGB, of sizes that are no multiples of anything."""
    return {
        "astronaut": skimage.data.astronaut()[:301, :263],
        "chelsea": skimage.data.chelsea()[:203, :217],
        "coffee": skimage.data.coffee()[100:299, 150:397],
        "rocket": skimage.data.rocket()[200:411, 250:443],
    }


@pytest.fixture
def archive(tmp_path, photographs) -> Path:
    """A folder of photographs in several formats, with a folder inside."""
    folder = tmp_path / "archive"
    (folder / "album one").mkdir(parents=True)
    Image.fromarray(photographs["astronaut"]).save(folder / "astronaut.png")
    Image.fromarray(photographs["chelsea"]).save(folder / "album one" / "chelsea.jpg", quality=95)
    Image.fromarray(photographs["coffee"]).save(folder / "album one" / "coffee [1].tif")
    Image.fromarray(photographs["rocket"]).convert("L").save(folder / "rocket.webp", lossless=True)
    return folder


@pytest.fixture(scope="session")
def heliograph() -> Run:
    """Run the command in a process of its own, as a user does."""

    def run(*arguments: object, code: int = 0, **settings) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, "-m", "heliograph", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
            **settings,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return run
