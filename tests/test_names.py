"""Names from shards never lead out of the output, and those that are fine stay as they are."""

import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transforms.names import safe_path


@pytest.mark.parametrize(
    "name", ["a.jpg", "a/b c/d.tar.jpg", "Zürich/写真.png", "50%.jpg", "%2E.x", "...", "ab:c", ".x"]
)
def test_good_names_stay_as_they_are(name):
    assert safe_path(name) == name


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("../../etc/x", "%2E%2E/%2E%2E/etc/x"),
        ("/etc/passwd", "%2F/etc/passwd"),
        ("a//b", "a/%2F/b"),
        ("./a", "%2E/a"),
        ("a:b", "a%3Ab"),
        ("C:/Windows/x", "C%3A/Windows/x"),
        ("C:\\Windows\\x", "C%3A%5CWindows%5Cx"),
        ("a\nb\x00c\x7f", "a%0Ab%00c%7F"),
        ("", "%2F"),
    ],
)
def test_what_could_lead_elsewhere_is_written_out(name, path):
    assert safe_path(name) == path


def test_long_names_are_cut_and_told_apart():
    one, other = (safe_path("ü" * 300 + end + ".jpg") for end in "ab")
    assert one != other
    assert one.endswith(".jpg")
    assert all(len(path.encode()) <= 200 for path in (one, other))
    deep = safe_path("/".join(["folder"] * 400) + "/x.jpg")
    assert len(deep.encode()) <= 1000
    assert deep.endswith(".jpg")


@given(
    st.text(alphabet=st.characters(codec=None), max_size=60) | st.text("./\\:aC\0\n", max_size=30)
)
@example("..")
@example("\udcff/..")
@example("\ud800")
@example("\ud800" * 300)
@example("é" * 250)
def test_no_name_leads_out(name):
    path = safe_path(name)
    whole = posixpath.normpath(posixpath.join("/output/images", path))
    assert whole.startswith("/output/images/")
    assert not posixpath.isabs(path)
    assert all(part not in ("", ".", "..") for part in path.split("/"))
    assert all(len(part.encode("utf-8", "surrogatepass")) <= 255 for part in path.split("/"))
    assert not any(ord(character) < 32 or character in "\\\x7f" for character in path)
    assert safe_path(path) == path
