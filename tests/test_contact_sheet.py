import io

import numpy as np
from PIL import Image

from pipeline.contact_sheet import Row, contact_sheet


def sheet(*rows: Row) -> np.ndarray:
    with Image.open(io.BytesIO(contact_sheet(rows, "title"))) as image:
        return np.asarray(image)


def test_pictures_of_any_shape_and_depth_stand_side_by_side(photographs):
    colour = photographs["coffee"]
    gray = colour[:, :60, :1].astype(np.uint16) * 257
    drawn = sheet(Row("coffee", ((colour, "a"), (gray, "b"), (colour[:1, :1], "c"))))
    first, second, third = (drawn[60:440, left : left + 380] for left in (22, 434, 846))
    assert first.std(axis=(0, 1)).min() > 20
    assert np.abs(second.astype(int) - second[..., :1]).max() < 12  # JPEG leaves it nearly gray
    assert np.abs(third.astype(int) - colour[0, 0]).max() < 12  # one pixel, grown


def test_a_long_name_stays_under_its_own_picture(photographs):
    picture = photographs["rocket"]
    long = "a very long name of a photograph of a rocket on its way to the stars and back again.jpg"
    short, cut = (
        sheet(Row("r", ((picture, ""), (picture, "")))),
        sheet(Row(long, ((picture, ""), (picture, "")))),
    )
    np.testing.assert_array_equal(short[:, 424:], cut[:, 424:])
    assert not np.array_equal(short[:, :400], cut[:, :400])
