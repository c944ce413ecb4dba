import numpy as np
import pytest
from PIL import Image

from transforms.codec import CodecError
from transforms.masks import MaskError, read_mask
from transforms.record import Member, Record, Source

MASK = np.random.default_rng(2).random((30, 40)) < 0.4


def record(key="album/one.jpg", member=None):
    source = Source(key, key, 0, 0.0, member)
    return Record(source=source, pixels=np.zeros((30, 40, 3), np.uint8))


@pytest.mark.parametrize(
    "name", ["album/one.jpg.png", "album/one.png"], ids=["as jobs write", "own extension"]
)
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_white_is_missing_in_every_kind_of_image(tmp_path, name, mode):
    path = tmp_path / name
    path.parent.mkdir()
    white = np.where(MASK, 65535 if mode == "I;16" else 255, 0)
    image = Image.fromarray(white.astype(np.uint16 if mode == "I;16" else np.uint8))
    (image if mode == "I;16" else image.convert(mode)).save(path)
    np.testing.assert_array_equal(read_mask(record(), str(tmp_path)).mask, MASK)


def test_jobs_own_masks_come_before_others(tmp_path):
    (tmp_path / "album").mkdir()
    Image.fromarray(MASK).save(tmp_path / "album" / "one.jpg.png")
    Image.fromarray(~MASK).save(tmp_path / "album" / "one.png")
    np.testing.assert_array_equal(read_mask(record(), str(tmp_path)).mask, MASK)


def test_the_mask_of_an_image_in_a_shard_lies_in_a_folder_named_after_it(tmp_path):
    (tmp_path / "photos.zip").mkdir()
    Image.fromarray(MASK).save(tmp_path / "photos.zip" / "one.jpg.png")
    member = Member("zip", None, "one.jpg", (0,))
    of_shard = record("photos.zip#one.jpg", member)
    np.testing.assert_array_equal(read_mask(of_shard, str(tmp_path)).mask, MASK)


def test_a_mask_that_is_missing_too_small_or_no_image_is_named(tmp_path):
    with pytest.raises(MaskError, match=r"looked for .*one\.jpg\.png, .*one\.png, .*one\.jpg$"):
        read_mask(record(), str(tmp_path))
    path = tmp_path / "album" / "one.jpg.png"
    path.parent.mkdir()
    Image.fromarray(MASK[:20]).save(path)
    with pytest.raises(MaskError, match=r"one\.jpg\.png has 40 x 20 pixels, and its image 40 x 30"):
        read_mask(record(), str(tmp_path))
    path.write_text("no picture")
    with pytest.raises(CodecError):
        read_mask(record(), str(tmp_path))
