import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing.util import assert_that

from models.handler import SavedModelHandler


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
