"""What networks are trained on: real photographs, cut, varied, damaged and told apart."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from models.contract import Contract
from pipeline.archive import find_sources
from pipeline.examples import (
    Original,
    Originals,
    Sampler,
    batches,
    central_crop,
    gather,
    network_input,
    random_crop,
    split,
    truth,
)
from transforms.recipe import parse_recipe
from transforms.shards import USUAL_COLUMNS

CHROMA = Contract(
    name="c",
    input_space="L",
    output_space="ab",
    input_range=(-1, 1),
    output_range=(-2.56, 2.56),
)


def gathered(archive: Path, path: Path, least: int = 64, in_colour: bool = False):
    sources, _ = find_sources([str(archive)])
    return gather(
        sources,
        path,
        columns=USUAL_COLUMNS,
        max_pixels=10**8,
        least=least,
        in_colour=in_colour,
    )


@pytest.fixture
def originals(archive, tmp_path) -> Originals:
    return gathered(archive, tmp_path / "originals.bin")[0]


@pytest.fixture
def sampler(originals) -> Sampler:
    return Sampler(
        originals=originals,
        training=list(range(len(originals))),
        recipe=parse_recipe("gaussian_noise:sigma=25"),
        seed=3,
        count=6,
        side=48,
        augment=("zoom", "flip", "turn", "tone"),
        contract=Contract(name="restorer"),
        space="RGB",
    )


def test_originals_are_the_archives_pixels_in_one_file(archive, originals, photographs):
    found = {image.key: originals.pixels(at) for at, image in enumerate(originals.images)}
    assert sorted(found) == [
        "album one/chelsea.jpg",
        "album one/coffee [1].tif",
        "astronaut.png",
        "rocket.webp",
    ]
    np.testing.assert_array_equal(found["astronaut.png"], photographs["astronaut"])
    np.testing.assert_array_equal(found["album one/coffee [1].tif"], photographs["coffee"])
    assert found["rocket.webp"].shape == (211, 193, 3)  # WebP has no gray


def test_deep_images_stay_deep_behind_odd_ones(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    Image.fromarray(np.full((65, 65), 9, np.uint8)).save(folder / "a.png")
    deep = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(deep).save(folder / "b.png")
    originals, _ = gathered(folder, tmp_path / "originals.bin")
    assert originals.pixels(1).dtype == np.uint16
    np.testing.assert_array_equal(originals.pixels(1)[..., 0], deep)


def test_what_cannot_be_trained_on_is_counted_with_its_reason(archive, tmp_path):
    (archive / "broken.png").write_bytes(b"no image at all")
    with Image.open(archive / "astronaut.png") as image:
        image.resize((400, 192)).save(archive / "tiny.png")
    originals, left_out = gathered(archive, tmp_path / "o.bin", least=193, in_colour=True)
    assert len(originals) == 3
    reasons = " ".join(left_out)
    assert sum(left_out.values()) == 3
    for reason in ("cannot be read", "smaller than the crop of 193 pixels", "gray"):
        assert reason in reasons


def test_a_photograph_printed_gray_in_three_channels_is_gray(tmp_path, photographs):
    folder = tmp_path / "archive"
    folder.mkdir()
    gray = Image.fromarray(photographs["chelsea"]).convert("L").convert("RGB")
    gray.save(folder / "gray.jpg", quality=90)
    Image.fromarray(photographs["chelsea"]).save(folder / "colour.jpg", quality=90)
    originals, _ = gathered(folder, tmp_path / "o.bin", in_colour=True)
    assert [image.key for image in originals.images] == ["colour.jpg"]


def invented(keys: list[str], digests: list[str]) -> Originals:
    images = [
        Original(key, digest, 0, (1, 1, 1), "uint8")
        for key, digest in zip(keys, digests, strict=True)
    ]
    return Originals("nowhere", images)


def test_no_image_is_ever_on_both_sides(tmp_path):
    keys = [f"box {n // 50}/{n:04}.jpg" for n in range(2000)]
    images = invented(keys, [str(n) for n in range(2000)])
    training, validation, twins = split(images, 0.1)
    assert sorted(training + validation) == list(range(2000))
    assert 150 < len(validation) < 250
    assert not twins
    # What an image is held out by is its key: neither its neighbours nor their order matter.
    held_out = {keys[index] for index in validation}
    fewer = invented(keys[::-3], [str(n) for n in range(len(keys[::-3]))])
    assert {keys[::-3][index] for index in split(fewer, 0.1)[1]} == held_out & set(keys[::-3])
    # A larger share holds out the same and more.
    assert held_out < {keys[index] for index in split(images, 0.2)[1]}


def test_copies_of_validation_images_are_not_trained_on():
    keys = [f"{n}.jpg" for n in range(400)]
    images = invented(keys, [str(n % 200) for n in range(400)])
    training, validation, twins = split(images, 0.2)
    seen = {images.images[index].sha256 for index in validation}
    assert not seen & {images.images[index].sha256 for index in training}
    assert twins > 10
    assert len(training) + len(validation) + twins == 400


def test_a_batch_depends_on_nothing_but_its_number_and_the_seed(sampler):
    again = pickle.loads(pickle.dumps(sampler))
    for step in (0, 7, 2):
        for one, other in zip(sampler.batch(step), again.batch(step), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not np.array_equal(sampler.batch(0)[0], sampler.batch(1)[0])
    other = dataclasses.replace(sampler, seed=4)
    assert not np.array_equal(sampler.batch(0)[0], other.batch(0)[0])


def test_worker_processes_give_the_same_batches_in_order(sampler):
    for step, (inputs, wanted) in enumerate(batches(sampler, 2, 7, processes=1), start=2):
        expected = sampler.batch(step)
        np.testing.assert_array_equal(inputs, expected[0])
        np.testing.assert_array_equal(wanted, expected[1])
    assert step == 6


def test_every_image_is_seen_once_an_epoch(sampler):
    whole = dataclasses.replace(sampler, count=4, augment=(), recipe=parse_recipe("grayscale"))
    for epoch in range(3):
        keys = [whole._example(epoch * 4 + place).key for place in range(4)]
        assert sorted(keys) == sorted(image.key for image in whole.originals.images)


def test_crops_are_damaged_as_the_recipe_says(sampler):
    plain = dataclasses.replace(sampler, count=32, augment=("flip", "turn"))
    inputs, wanted = plain.batch(0)
    assert inputs.dtype == wanted.dtype == np.float32
    assert inputs.shape == wanted.shape == (32, 48, 48, 3)
    spread = (inputs - wanted)[(wanted > 0.4) & (wanted < 0.6)].std()
    assert spread == pytest.approx(25 / 255, rel=0.05)


def test_a_mask_goes_beside_the_image(sampler):
    masked = dataclasses.replace(sampler, recipe=parse_recipe("mask:amount=0.3"), masked=True)
    (inputs, mask), wanted = masked.batch(0)
    assert mask.shape == (6, 48, 48, 1)
    assert mask.mean() == pytest.approx(0.3, abs=0.02)
    there = mask[..., 0] == 0
    np.testing.assert_allclose(inputs[there], wanted[there], atol=1e-6)
    assert np.all(inputs[~there] == 0)


def test_crops_vary_and_stay_inside(photographs):
    pixels = photographs["coffee"]
    rng = np.random.default_rng(0)
    crops = [random_crop(rng, pixels, 64, ("zoom", "flip")) for _ in range(40)]
    assert {crop.shape for crop in crops} == {(64, 64, 3)}
    assert len({crop.tobytes() for crop in crops}) == 40
    exact = random_crop(rng, pixels, 64, ())
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (64, 64, 3))[:, :, 0]
    assert (windows == exact).all(axis=(2, 3, 4)).any()


def test_a_tone_is_one_curve_for_the_whole_crop(photographs):
    pixels = photographs["astronaut"]
    for seed in range(8):
        crop = random_crop(np.random.default_rng(seed), pixels, 200, ("tone",))
        rng = np.random.default_rng(seed)
        top, left = rng.integers(301 - 200 + 1), rng.integers(263 - 200 + 1)
        before = pixels[top : top + 200, left : left + 200]
        for level in (20, 120, 220):
            assert len(np.unique(crop[before == level])) <= 1


def test_the_middle_is_the_same_every_time(photographs):
    pixels = photographs["rocket"]
    middle = central_crop(pixels, 100, ())
    np.testing.assert_array_equal(middle, pixels[55:155, 46:146])
    whole = central_crop(pixels, 100, ("zoom",))
    assert whole.shape == (100, 100, 3)
    assert whole.mean() == pytest.approx(pixels[9:202].mean(), abs=1)


def test_chroma_is_taught_as_scikit_image_has_it(photographs):
    pixels = photographs["chelsea"]
    lab = rgb2lab(pixels)
    np.testing.assert_allclose(
        network_input(pixels, CHROMA)[..., 0], lab[..., 0] / 50 - 1, atol=2e-3
    )
    np.testing.assert_allclose(truth(pixels, CHROMA, "ab"), lab[..., 1:] / 50, atol=2e-3)


def test_a_residual_is_taught_in_the_range_of_its_input(photographs):
    contract = Contract(name="r", output="residual", input_range=(-1, 1))
    pixels = photographs["chelsea"]
    np.testing.assert_allclose(truth(pixels, contract, "RGB"), pixels / 127.5 - 1, atol=1e-6)
