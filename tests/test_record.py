"""Records carry what is known of an image; a batch outlives any of them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.record import Batch, BatchSpec, Member, Record, Source

texts = st.text(st.characters(exclude_categories=[]), max_size=20)  # lone surrogates too
members = st.builds(
    Member,
    texts,
    st.sampled_from([None, "gzip"]),
    texts,
    st.lists(st.integers(0, 2**63) | texts, max_size=4).map(tuple),
    st.integers(0, 2**63),
    st.none() | texts,
    st.integers(0, 2**63),
)
sources = st.builds(
    Source,
    texts,
    texts,
    st.integers(0, 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | members,
    st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    st.none() | texts,
    st.none() | st.tuples(texts, st.integers(0, 2**63)),
)


def record(key="a.jpg", **known):
    return Record(source=Source(key, f"/archive/{key}", 10, 0.5), **known)


def spec(*keys, pixels=1, cuts=()):
    return BatchSpec(tuple(record(key).source for key in keys), pixels, cuts)


def only(plan):
    (batch,) = plan.batches()
    return batch


@given(st.lists(sources), st.integers(0, 2**63), st.lists(st.integers(1, 9)).map(tuple))
def test_a_spec_survives_its_line_of_json(listed, pixels, cuts):
    plan = BatchSpec(tuple(listed), pixels, cuts)
    line = plan.to_json()
    assert "\n" not in line
    assert line.isascii(), "no runner's coder can stumble over a name"
    assert BatchSpec.from_json(line) == plan


def test_a_spec_line_is_plain_json():
    assert json.loads(spec("ä.jpg").to_json()) == {
        "sources": [["ä.jpg", "/archive/ä.jpg", 10, 0.5, None, [], None, None]],
        "pixels": 1,
        "cuts": [],
    }


def test_a_batch_id_depends_on_the_keys_alone():
    elsewhere = BatchSpec((Source("a", "gs://moved/a", 99, 7.0), Source("b", "x", 1, 1.0)), 5)
    assert only(elsewhere).id == only(spec("a", "b")).id
    # printf 'a\0b' | sha256sum | head -c 16
    assert only(elsewhere).id == "59b271ae1bbcb1d3"


@pytest.mark.parametrize("keys", [("b", "a"), ("a",), ("ab",), ("a", "b", "c"), ("a", "\udcff")])
def test_other_keys_give_another_batch_id(keys):
    assert only(spec(*keys)).id != only(spec("a", "b")).id


def test_a_spec_gives_records_in_its_order_with_nothing_read():
    batch = only(spec("b", "a"))
    assert [held.key for held in batch.records] == ["b", "a"]
    assert len(batch) == 2
    assert batch.nbytes == batch.failures == 0


def test_a_spec_of_several_batches_gives_them_one_by_one():
    batches = list(spec("a", "b", "c", "d", "e", cuts=(2, 4)).batches())
    assert [[held.key for held in batch.records] for batch in batches] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
    ]
    assert batches[0].id == only(spec("a", "b")).id, "as if they were planned one by one"


@pytest.mark.parametrize(
    ("key", "name", "mirror"),
    [
        ("a/s.tar#x/y.jpg", "x/y.jpg", "a/s.tar/x/y.jpg"),
        ("s#1.tar#x#y.jpg", "x#y.jpg", "s#1.tar/x#y.jpg"),
        ("s.tar#../../x.jpg", "../../x.jpg", "s.tar/%2E%2E/%2E%2E/x.jpg"),
    ],
)
def test_a_derivative_of_a_shard_lies_in_a_folder_of_its_name(key, name, mirror):
    member = Member("webdataset", None, name, (0, 1))
    assert Source(key, "/archive/s.tar", 1, 0.0, member).mirror == mirror


def test_a_derivative_of_a_file_lies_under_its_key():
    assert record("a#b/50%.jpg").source.mirror == "a#b/50%.jpg"


def test_one_record_that_fails_leaves_its_neighbours_alone():
    def double(held):
        if held.key == "bad":
            raise OSError("the disk\n   is on fire")
        return held.replace(pixels=held.image * 2)

    ones = np.ones((2, 2, 1), np.uint8)
    names = ("first", "bad", "last")
    batch = Batch("id", tuple(record(name, pixels=ones, sha256=name) for name in names))
    after = batch.map({"decode": double})
    assert [held.key for held in after.records] == list(names)
    assert after.failures == 1
    assert batch.failures == 0
    first, bad, last = after.records
    assert first.failure is last.failure is None
    assert first.image.max() == last.image.max() == 2
    assert (bad.failure.stage, bad.failure.error) == ("decode", "OSError")
    assert bad.failure.message == "the disk is on fire"


def test_a_failed_record_is_passed_on_untouched_by_later_stages():
    failed = record().failed("read", ValueError("first"))
    seen = []
    after = Batch("id", (failed,)).map({"write": seen.append})
    assert after.records == (failed,)
    assert not seen


def test_a_failed_record_lets_its_pixels_go_but_not_what_is_known():
    pixels = np.zeros((4, 4, 3), np.uint8)
    held = record(pixels=pixels, reference=pixels, encoded=b"x", sha256="ab", warnings=("w",))
    failed = held.failed("restore", MemoryError())
    assert Batch("id", (failed,)).nbytes == 0
    assert (failed.sha256, failed.warnings, failed.source) == ("ab", ("w",), held.source)
    assert failed.failure.message == "MemoryError", "an error without words is named"


def test_a_batch_counts_the_bytes_of_everything_it_holds():
    held = record(
        encoded=b"12345",
        pixels=np.zeros((2, 3, 3), np.uint16),  # 36
        alpha=np.zeros((2, 3), np.uint16),  # 12
        reference=np.zeros((2, 3, 3), np.uint8),  # 18
        mask=np.zeros((2, 3), bool),  # 6
        restored=np.zeros((2, 3, 1), np.uint16),  # 12
    )
    assert Batch("id", (held, record())).nbytes == 5 + 36 + 12 + 18 + 6 + 12


def test_asking_for_the_pixels_of_a_record_that_has_none_names_it():
    with pytest.raises(AssertionError, match=r"a\.jpg has not been decoded"):
        _ = record().image


def test_a_copy_has_what_was_changed_and_the_rest_and_nothing_else():
    held = record(sha256="ab", warnings=("w",))
    copied = held.replace(recipe="jpeg:3", warnings=())
    assert copied == record(sha256="ab", recipe="jpeg:3")
    assert held == record(sha256="ab", warnings=("w",))
    with pytest.raises(TypeError, match="no pixel"):
        held.replace(pixel=np.ones((2, 2, 1), np.uint8))
