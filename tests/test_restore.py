import numpy as np
import pytest
import skimage.data

from models import saved_model
from models.contract import Contract
from transforms.record import Batch, Record, Source
from transforms.restore import restore_batch, restore_images


@pytest.fixture(scope="module")
def load(models):
    return lambda name: saved_model.load(str(models / name), precision="float32")


def restored(image, model, tile=768):
    (result,) = restore_images([image], model, model.contract, tile)
    return result


def record(key: str, pixels: np.ndarray) -> Record:
    return Record(source=Source(key, key, 0, 0.0), pixels=pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 17, 3), (33, 20, 1), (64, 48, 3)])
def test_an_identity_keeps_every_level(load, shape, dtype):
    rng = np.random.default_rng(1)
    image = rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    np.testing.assert_array_equal(restored(image, load("identity")), image)


def test_the_contracts_ranges_are_kept(load, photographs):
    image = photographs["coffee"]
    np.testing.assert_array_equal(restored(image, load("invert")), 255 - image)
    deep = image.astype(np.uint16) * 257
    np.testing.assert_array_equal(restored(deep, load("invert")), 65535 - deep)


@pytest.mark.parametrize("tile", [256, 300, 384, 448])
@pytest.mark.parametrize("shape", [(512, 512), (401, 511), (23, 509)], ids=str)
def test_tiles_give_what_the_whole_image_gives(load, shape, tile):
    model = load("blur")
    image = skimage.data.astronaut()[: shape[0], : shape[1]]
    whole = restored(image, model, tile=768)
    tiled = restored(image, model, tile)
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert np.mean(tiled != whole) < 1e-3


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_denoiser_shows_no_seam(precision):
    model = saved_model.load("denoise", precision=precision)
    image = skimage.data.astronaut()[:403, :501]
    whole = restored(image, model, tile=768)
    tiled = restored(image, model, tile=320)
    assert np.abs(tiled.astype(int) - whole).max() <= 1


def test_a_tile_within_the_margins_is_refused(load, photographs):
    with pytest.raises(ValueError, match=r"64 pixels leave no room between margins of 6 pixels"):
        restored(photographs["astronaut"], load("blur"), tile=32)


def test_chroma_is_joined_to_the_masters_own_lightness(load, photographs):
    from skimage.color import rgb2lab

    gray = photographs["chelsea"][..., :1] // 2 + 64  # colours that sRGB can hold at a=22, b=33
    colour = restored(gray, load("constant_chroma"))
    assert colour.shape == (*gray.shape[:2], 3)
    assert colour.dtype == np.uint8
    before = rgb2lab(np.repeat(gray, 3, -1))
    after = rgb2lab(colour)
    assert np.abs(after[..., 0] - before[..., 0]).max() < 0.5  # what 8 bits can say
    assert np.abs(np.median(after[..., 1:], axis=(0, 1)) - (22, 33)).max() < 0.5


def test_one_bad_image_does_not_take_its_neighbours_with_it(load):
    bright, dark = np.full((16, 16, 3), 200, np.uint8), np.full((16, 16, 3), 20, np.uint8)
    batch = Batch("b", (record("a", bright), record("b", dark), record("c", bright)))
    done = restore_batch(batch, load("not_a_number_in_the_dark"))
    assert [one.key for one in done.records] == ["a", "b", "c"]
    assert [one.failure is None for one in done.records] == [True, False, True]
    failure = done.records[1].failure
    assert failure.stage == "restore"
    assert "NaN" in failure.message
    np.testing.assert_array_equal(done.records[2].restored, bright)


def test_a_result_of_the_wrong_size_is_a_failure(load):
    batch = Batch("b", (record("a", np.zeros((16, 12, 3), np.uint8)),))
    (done,) = restore_batch(batch, load("half_size")).records
    assert "gave 8 x 8 pixels for 16 x 16" in done.failure.message


def test_failed_records_are_passed_on(load):
    failed = record("a", np.zeros((4, 4, 3), np.uint8)).failed("decode", ValueError("broken"))
    batch = Batch("b", (failed, record("b", np.zeros((4, 4, 3), np.uint8))))
    first, second = restore_batch(batch, load("identity")).records
    assert first == failed.replace(model="identity")  # which would have been applied to it
    assert second.restored is not None


def test_an_archive_of_many_sizes_meets_the_model_in_few_shapes():
    contract = Contract(name="counted", multiple=8, margin=56)
    shapes = set()

    def model(images):
        shapes.add(images.shape)
        return images

    model.contract = contract
    rng = np.random.default_rng(3)
    sides = rng.integers(1, 900, (300, 2))
    records = [record(str(n), np.zeros((*side, 1), np.uint8)) for n, side in enumerate(sides)]
    records += [record(f"digit {n}", np.zeros((28, 28, 1), np.uint8)) for n in range(77)]
    done = restore_batch(Batch("b", tuple(records)), model, 640)
    assert all(one.failure is None for one in done.records)
    assert len({tuple(side) for side in sides}) > 290
    assert len(shapes) < 110
    assert {shape[0] for shape in shapes if shape[1:] == (32, 32, 3)} <= {1, 2, 4, 8, 16, 32, 64}
