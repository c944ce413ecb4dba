"""Other people's SavedModels, run; outputs are worked out by hand."""

import json
import shutil

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing.util import assert_that
from PIL import Image
from skimage.color import rgb2lab

from models import saved_model
from models.contract import Contract
from models.description import describe
from models.export import export
from models.handler import SavedModelHandler
from pipeline import cli, job
from tests import saved_models
from transforms.record import Batch, Record, Source
from transforms.restore import restore_batch, restore_images

SAID_OF_FILL = {
    "mask_input": "mask",
    "mask_values": "0,1",
    "image_output": "restored",
    "input_range": "-1,1",
    "output_range": "-1,1",
}
FLAGS_OF_FILL = [f"--{field}={value}" for field, value in SAID_OF_FILL.items()]


def load(path, **said):
    contract = describe(path, said).contract
    return saved_model.load(str(path), precision="float32", contract=contract)


def restored(image, model, tile=640, mask=None):
    masks = None if mask is None else [mask]
    (result,) = restore_images([image], model, model.contract, tile, masks)
    return result


def holes(shape, share=0.3):
    return np.random.default_rng(5).random(shape[:2]) < share


def test_uint8_channels_first_in_multiples(models, photographs):
    model = load(models / "negative_nchw_uint8", multiple=8)
    for image in photographs.values():
        np.testing.assert_array_equal(restored(image, model), 255 - image)
    image = photographs["astronaut"]
    np.testing.assert_array_equal(restored(image, model, tile=256), 255 - image)
    deep = image.astype(np.uint16) * 257
    np.testing.assert_array_equal(restored(deep, model), 65535 - deep)
    gray = image[..., :1]
    np.testing.assert_array_equal(restored(gray, model), 255 - gray)


def test_sixteen_bits_are_rounded_not_cut_for_a_model_of_eight(models):
    model = load(models / "negative_nchw_uint8")
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    expected = (255 - np.rint(levels / 257)) * 257
    np.testing.assert_array_equal(restored(levels, model), expected)


def test_half_precision_and_a_batch_of_one(tmp_path, photographs):
    def darker(tf, image):
        assert image.dtype == "float16"
        return {"output": image / 2}

    path = saved_models.save_foreign(tmp_path / "half", darker, image=((1, 64, 64, 3), "float16"))
    model = load(path, input_range="0,255", output_range="0,255")
    assert model.contract.dtype == "float16"
    assert model.contract.size == (64, 64)
    images = [photo[:64, :64] for photo in photographs.values()]
    for image, result in zip(images, restore_images(images, model, model.contract), strict=True):
        assert np.abs(result - image / 2).max() <= 0.5
    large = photographs["chelsea"]
    assert np.abs(restored(large, model) - large / 2).max() <= 0.5 + 255 / 2048  # blended


def test_gray_becomes_colour(tmp_path, photographs):
    path = saved_models.save_foreign(
        tmp_path / "tint",
        lambda tf, gray: {"rgb": tf.concat([gray, gray * 0.5, gray * 0], -1)},
        gray=((None, None, None, 1), "float32"),
    )
    model = load(path, input_range="0,1", output_range="0,1")
    gray = photographs["astronaut"][..., :1]
    for tile in (640, 256):
        result = restored(gray, model, tile)
        assert result.shape == (*gray.shape[:2], 3)
        expected = gray * np.array([1, 0.5, 0])
        assert np.abs(result - expected).max() <= 0.51


def test_gray_in_and_chroma_out(tmp_path, photographs):
    path = saved_models.save_foreign(
        tmp_path / "chroma",
        lambda tf, gray: {"ab": tf.ones_like(gray) * tf.constant([22.0, 33.0]) * 128 / 128},
        gray=((None, None, None, 1), "float32"),
    )
    model = load(path, input_space="gray", input_range="0,1", output_range="-128,128")
    gray = photographs["chelsea"][..., :1] // 2 + 64
    lab = rgb2lab(restored(gray, model))
    assert np.abs(np.median(lab[..., 1:], axis=(0, 1)) - (22, 33)).max() < 0.5


def test_only_the_chroma_of_an_rgb_output_where_luminance_is_kept(tmp_path, photographs):
    orange = (200, 120, 60)
    path = saved_models.save_foreign(
        tmp_path / "orange",
        lambda tf, gray: {"rgb": tf.zeros_like(gray) + tf.constant(orange, tf.float32)},
        gray=((None, 64, 64, 1), "float32"),
    )
    model = load(path, input_range="0,255", output_range="0,255", keep_luminance=True)
    gray = photographs["chelsea"][..., :1] // 4 + 110
    before, after = rgb2lab(np.repeat(gray, 3, -1)), rgb2lab(restored(gray, model))
    assert np.abs(after[..., 0] - before[..., 0]).max() < 0.5
    chroma = rgb2lab(np.uint8([[orange]]))[0, 0, 1:]
    assert np.abs(np.median(after[..., 1:], axis=(0, 1)) - chroma).max() < 0.5


@pytest.mark.parametrize("there_and_missing", ["0,1", "1,0"])
def test_missing_pixels_become_the_mean_of_the_rest(
    models, tmp_path, photographs, there_and_missing
):
    path = models / "fill_with_mean"
    if there_and_missing == "1,0":

        def opposite(tf, image, mask):
            mean = tf.reduce_sum(image * mask, (1, 2), keepdims=True)
            mean /= tf.reduce_sum(mask, (1, 2), keepdims=True)
            return {"restored": image * mask + mean * (1 - mask)}

        path = saved_models.save_foreign(
            tmp_path / "opposite",
            opposite,
            image=((None, None, None, 3), "float32"),
            mask=((None, None, None, 1), "float32"),
        )
    model = load(path, **{**SAID_OF_FILL, "mask_values": there_and_missing})
    for image in photographs.values():  # what they are padded with is no part of the mean
        mask = holes(image.shape)
        result = restored(image, model, mask=mask)
        np.testing.assert_array_equal(result[~mask], image[~mask])
        assert np.abs(result[mask] - image[~mask].mean(0)).max() <= 0.51


def test_tiles_come_with_their_part_of_the_mask(tmp_path, photographs):
    # Shows the mask itself, in an NCHW model with a bool mask without channels.
    path = saved_models.save_foreign(
        tmp_path / "mask",
        lambda tf, image, mask: {"out": image * 0 + tf.cast(mask, tf.float32)[:, None]},
        image=((None, 3, None, None), "float32"),
        mask=((None, None, None), "bool"),
    )
    said = {"mask_input": "mask", "mask_values": "0,1", "input_range": "0,1"}
    model = load(path, **said, output_range="0,1")
    image = photographs["astronaut"]
    mask = np.zeros(image.shape[:2], bool)
    mask[100:180, 50:200] = mask[:9, :9] = mask[-3:] = True
    for tile in (640, 256):
        expected = np.where(mask[..., None], 255, 0) * np.ones(3)
        np.testing.assert_array_equal(restored(image, model, tile, mask), expected)


def test_missing_pixels_are_filled_before_the_model_sees_them(tmp_path, photographs):
    path = saved_models.save_foreign(
        tmp_path / "seen",
        lambda tf, image, mask: {"out": image},
        image=((None, None, None, 3), "float32"),
        mask=((None, None, None, 1), "float32"),
    )
    said = {"mask_input": "mask", "mask_values": "0,1"}
    model = load(path, **said, input_range="-1,1", output_range="-1,1", mask_fill="0")
    image = photographs["coffee"]
    mask = holes(image.shape)
    result = restored(image, model, mask=mask)
    np.testing.assert_array_equal(result[~mask], image[~mask])
    assert set(np.unique(result[mask])) <= {127, 128}


def test_in_a_batch_each_record_has_its_own_mask(models, photographs):
    model = load(models / "fill_with_mean", **SAID_OF_FILL)
    image = photographs["chelsea"][:64, :64]
    masks = [holes(image.shape), None, ~holes(image.shape)]
    records = tuple(
        Record(source=Source(str(n), str(n), 0, 0.0), pixels=image, mask=mask)
        for n, mask in enumerate(masks)
    )
    done = restore_batch(Batch("b", records), model)
    for record, mask in zip(done.records, masks, strict=True):
        assert record.failure is None
        missing = np.zeros(image.shape[:2], bool) if mask is None else mask
        np.testing.assert_array_equal(record.restored[~missing], image[~missing])
        assert len(np.unique(record.restored[missing], axis=0)) == missing.any()


def test_a_model_that_takes_masks_is_not_run_without(models):
    model = load(models / "fill_with_mean", **SAID_OF_FILL)
    with pytest.raises(ValueError, match="takes a mask of missing pixels with each image"):
        model(np.zeros((1, 8, 8, 3), np.float32))


def test_runinference_takes_images_with_masks(models, photographs):
    contract = describe(models / "fill_with_mean", SAID_OF_FILL).contract
    image = photographs["rocket"][:64, :64].astype(np.float32) / 127.5 - 1
    mask = holes(image.shape)

    def matches(results):
        for result in results:
            expected = np.where(mask[..., None], image[~mask].mean(0), image)
            np.testing.assert_allclose(result.inference, expected, atol=1e-5)

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        handler = SavedModelHandler(
            str(models / "fill_with_mean"), precision="float32", contract=contract
        )
        pairs = pipeline | beam.Create([(image, mask)])
        assert_that(pairs | RunInference(handler), matches)


def test_an_inpainting_network_of_ours_exports_with_its_mask(tmp_path):
    import keras

    image, mask = keras.Input((None, None, 3)), keras.Input((None, None, 1))
    both = keras.layers.Concatenate()([image, mask])
    network = keras.Model([image, mask], keras.layers.Conv2D(3, 3, padding="same")(both))
    contract = Contract(name="inpaint", mask_input="mask", margin=1)
    export(network, tmp_path / "inpaint", contract)
    model = saved_model.load(str(tmp_path / "inpaint"), precision="float32")
    rng = np.random.default_rng(0)
    images, masks = rng.random((2, 16, 24, 3), np.float32), rng.random((2, 16, 24)) < 0.5
    expected = network([images, masks[..., None].astype(np.float32)])
    np.testing.assert_allclose(model(images, masks), np.asarray(expected), atol=1e-5)


# -- As commands -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory):
    import keras

    folder = tmp_path_factory.mktemp("keras")
    image = keras.Input((None, None, 3), name="photo")
    network = keras.Model(image, keras.layers.Conv2D(3, 1, name="negative")(image))
    network.set_weights([-np.eye(3, dtype=np.float32)[None, None], np.ones(3, np.float32)])
    network.save(folder / "negative.keras")
    image = keras.Input((None, None, 3))
    doubled = keras.layers.Lambda(lambda values: values * 2, name="trick")(image)
    keras.Model(image, doubled).save(folder / "lambda.keras")
    return folder


def test_masks_of_one_job_serve_the_next(models, tmp_path, heliograph, photographs):
    archive, first, second = tmp_path / "archive", tmp_path / "first", tmp_path / "second"
    (archive / "album").mkdir(parents=True)
    for name in ("astronaut", "album/chelsea"):
        Image.fromarray(photographs[name.split("/")[-1]]).save(archive / f"{name}.png")
    model = ("--model", models / "fill_with_mean", *FLAGS_OF_FILL)
    heliograph("evaluate", archive, first, *model, "--recipe", "mask:2", "--workers", 1)
    rows = [json.loads(line.rstrip(",")) for line in lines_of_rows(first)]
    assert len(rows) == 2
    for row in rows:
        assert row["status"] == "restored"
        assert row["metrics"]["psnr_rgb_gain"] > 1
    (first / "masks" / "astronaut.png.png").unlink()
    masks = ("--masks", first / "masks", "--workers", 1)
    heliograph("restore", archive, second, *model, *masks, code=3)
    (failure,) = map(json.loads, (second / "failures.jsonl").read_text().splitlines())
    assert (failure["key"], failure["stage"]) == ("astronaut.png", "mask")
    assert "there is no mask for it; looked for" in failure["message"]
    with Image.open(second / "images" / "album" / "chelsea.png") as file:
        result = np.asarray(file)
    with Image.open(first / "masks" / "album" / "chelsea.png.png") as file:
        mask = np.asarray(file)
    original = photographs["chelsea"]
    np.testing.assert_array_equal(result[~mask], original[~mask])
    assert len(np.unique(result[mask], axis=0)) == 1
    assert np.abs(result[mask][0] - original[~mask].mean(0)).max() <= 0.51
    said = json.loads((second / "ledger" / "job.json").read_text())["job"]
    assert said["contract"]["mask_input"] == "mask"
    assert said["masks"] == str(first / "masks")


def lines_of_rows(output):
    for path in sorted((output / "ledger" / "batches").glob("*.json")):
        yield from path.read_text().splitlines()[1:-1]


def test_a_keras_file_is_exported_and_run(archive, tmp_path, heliograph, keras_files, photographs):
    model = ("--model", keras_files / "negative.keras", "--input_range=0,1", "--output_range=0,1")
    output = tmp_path / "out"
    alone = ("--precision", "float32", "--workers", 1)
    heliograph("restore", archive / "astronaut.png", output, *model, *alone)
    with Image.open(output / "images" / "astronaut.png") as file:
        np.testing.assert_array_equal(np.asarray(file), 255 - photographs["astronaut"])
    ran = json.loads((output / "ledger" / "job.json").read_text())["job"]
    assert ran["model"].endswith("negative.keras")
    assert ran["model_sha256"] == saved_model.digest(keras_files / "negative.keras")


def test_models_prints_a_contract_and_where_it_is_from(models, tmp_path, heliograph):
    path = models / "fill_with_mean"
    shown = heliograph("models", path, *FLAGS_OF_FILL).stdout
    said = [line.split() for line in shown.splitlines()[3:]]
    origins = {words[0]: " ".join(words[-2:]) for words in said}
    assert origins["input_range"] == origins["mask_input"] == "command line"
    assert origins["layout"].endswith("signature")
    assert origins["margin"].endswith("default")
    assert "its graph only computes" in shown
    printed = heliograph("models", path, *FLAGS_OF_FILL, "--json").stdout
    contract = tmp_path / "contract.json"
    contract.write_text(printed)
    again = heliograph("models", path, "--contract", contract).stdout
    assert "contract file" in again
    assert heliograph("models", path, "--contract", contract, "--json").stdout == printed


def test_a_range_may_begin_with_a_minus(models, heliograph):
    said = ("--input_range", "-1,1", "--output_range", "-128/110,128/110", "--json")
    shown = heliograph("models", models / "constant_chroma", *said).stdout
    assert json.loads(shown)["input_range"] == [-1, 1]
    assert json.loads(shown)["output_range"] == [-128 / 110, 128 / 110]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["models", "{models}/fill_with_mean"], "--image_output=NAME: which output is the image"),
        (["models", "{models}/identity", "--layout", "CHWN"], "invalid choice: 'CHWN'"),
        (["models", "{models}/identity", "--size_multiple", "0"], "whole number from 1"),
        (["models", "{models}/identity", "--input_range=white"], "takes LOW,HIGH"),
        (["models", "{hidden}"], "WriteFile (in function"),
        (["restore", "{archive}", "{out}", "--model", "{hidden}"], "WriteFile (in function"),
        (["models", "{keras}/lambda.keras"], "its layer 'trick' (Lambda) could run any program"),
        (["models", "{keras}/lambda.keras", "--trust_model"], "its layer 'trick' (Lambda)"),
        (["models", "{keras}/none.keras"], "there is no model"),
        (["models", "{text}.keras"], "is not a .keras file of Keras 3"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_bad_models_stop_before_any_work(
    models, keras_files, archive, tmp_path, heliograph, arguments, said
):
    hidden = tmp_path / "hidden"
    if "{hidden}" in arguments:
        saved_models.hidden_write(hidden, tmp_path / "written")
    (tmp_path / "text.keras").write_text("not a zip")
    places = {
        "models": models,
        "hidden": hidden,
        "keras": keras_files,
        "text": tmp_path / "text",
        "archive": archive,
        "out": tmp_path / "out",
    }
    done = heliograph(*(argument.format(**places) for argument in arguments), code=2)
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "written").exists()


def asked(*arguments):
    parser, _ = cli._parser()
    return job.make_job(parser.parse_args([str(argument) for argument in arguments]))


def test_what_is_said_of_a_model_is_part_of_the_job(models, keras_files, tmp_path):
    said = ("restore", "archive", tmp_path / "out", "--model", models / "fill_with_mean")
    said += (*FLAGS_OF_FILL, "--masks", "masks")
    one = asked(*said)
    assert one.digest == asked(*said).digest
    assert one.facts["contract"]["mask_values"] == [0, 1]
    assert one.digest != asked(*said, "--mask_fill=0").digest
    assert one.digest != asked(*said, "--masks", "others").digest
    exported = ("restore", "archive", tmp_path / "out", "--model", keras_files / "negative.keras")
    exported += ("--input_range=0,1", "--output_range=0,1")
    first, second = asked(*exported), asked(*exported)
    # Two exports are never the same, and are not what counts.
    assert first.digest == second.digest
    assert first.model != second.model


def test_masks_and_models_that_take_them_go_together(models, tmp_path):
    job_of = ("restore", "archive", tmp_path / "out")
    with pytest.raises(job.JobError, match="denoise takes none"):
        asked(*job_of, "--masks", "masks")
    with pytest.raises(job.JobError, match="name a folder of them with --masks"):
        asked(*job_of, "--model", models / "fill_with_mean", *FLAGS_OF_FILL)


def test_a_worker_checks_what_it_loads(models, tmp_path):
    path = saved_models.hidden_write(tmp_path / "hidden", tmp_path / "written")
    contract = Contract(name="identity")
    handler = SavedModelHandler(str(path), contract=contract)
    with pytest.raises(ValueError, match="WriteFile"):
        handler.load_model()
    shutil.copytree(models / "identity", path, dirs_exist_ok=True)
    handler.load_model()
