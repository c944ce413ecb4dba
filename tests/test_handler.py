import shutil
from contextlib import contextmanager

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing.util import assert_that

from models.handler import SavedModelHandler
from models.saved_model import digest


def test_runinference_serves_a_saved_model_in_any_pipeline(models, photographs):
    images = [photo[:64, :80].astype(np.float32) / 127.5 - 1 for photo in photographs.values()]
    images.append(images[0][:32])  # of another size: not stacked with the rest

    def matches(results):
        assert len(results) == len(images)
        for result in results:
            np.testing.assert_allclose(result.inference, -result.example, atol=1e-6)

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        handler = SavedModelHandler(str(models / "invert"), precision="float32", batch_size=2)
        assert_that(pipeline | beam.Create(images) | RunInference(handler), matches)


def test_a_model_from_elsewhere_runs_once_its_folder_is_gone(models, tmp_path, photographs):
    @contextmanager
    def fetch(model):
        assert model == "far://away"
        copy = shutil.copytree(models / "blur", tmp_path / "copy")
        yield str(copy)
        shutil.rmtree(copy)

    handler = SavedModelHandler("far://away", fetch=fetch, sha256=digest(models / "blur"))
    model = handler.load_model()
    assert not (tmp_path / "copy").exists()
    image = photographs["chelsea"][:64, :64].astype(np.float32) / 255
    here = SavedModelHandler(str(models / "blur")).load_model()
    assert np.array_equal(model(image[None]), here(image[None]))
