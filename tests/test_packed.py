"""Sequences that hold packed what there is one of for each image."""

import gc
import itertools
import random
import struct
import tracemalloc

import pytest

from pipeline.archive import find_sources
from pipeline.ledger import Ledger
from pipeline.packed import Ordered, Specs, packed_files, packed_sources
from pipeline.plan import Budget, slice_sources, without
from transforms.record import BatchSpec, Member, Source, commits_of
from transforms.stores import File


def source(number, **more):
    return Source(f"box/{number:05}.tif", f"/masters/box/{number:05}.tif", number, 1.5, **more)


def in_shard(number):
    place = (512 * number, 100, "deflate")
    member = Member("webdataset", None, f"{number:05}", place, pixels=784, beside=number % 3)
    return Source(f"a.tar#{number:05}", "/masters/a.tar", number, 1.5, member)


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
def test_what_was_packed_comes_out_as_it_went_in(count):
    listed = [in_shard(number) if number % 3 else source(number) for number in range(count)]
    packed = packed_sources(listed)
    assert len(packed) == count
    assert list(packed) == listed
    assert [packed[place] for place in range(0, count, 97)] == listed[::97]
    assert list(packed[1:2000:7]) == listed[1:2000:7]
    assert packed == listed
    assert packed != [*listed, source(0)]
    with pytest.raises(IndexError):
        packed[count]
    if count:
        assert packed[-1] == listed[-1]


def test_every_attribute_is_packed_and_names_that_are_no_text():
    odd = [
        source(1, fields=(("title", "Fähre ☃"), ("year", "1907")), mirrored="x/y"),
        source(2, table=("/out/fields/0.arrow", 7)),
        Source("caf\udce9/\udcff.png", "/masters/caf\udce9/\udcff.png", 2**40, 1e9 + 0.1),
        Source("#*", "/a.tar", 0, 0.0, Member("tar", "gzip", "*", (), trouble="cut", is_none=True)),
    ]
    packed = packed_sources(odd * 1000)  # more than a block
    assert list(packed) == odd * 1000
    assert packed[2].fields == () and packed[0].fields == odd[0].fields


@pytest.mark.parametrize("sizes", list(itertools.product([0, 3, 1024, 2500], repeat=2)))
def test_packed_sequences_are_put_together_whatever_their_blocks_are(sizes):
    parts = [[source(number) for number in range(size)] for size in sizes]
    whole = packed_sources([source(77)])
    for part in parts:
        whole.extend(packed_sources(part))
    expected = [source(77), *itertools.chain(*parts)]
    assert list(whole) == expected
    assert [whole[place] for place in range(0, len(whole), 501)] == expected[::501]


def test_a_packed_image_takes_a_twentieth_of_the_memory():
    packed = packed_sources(in_shard(number) for number in range(10_240))
    held = sum(len(data) for _, data in packed._blocks)
    assert held < 35 * len(packed)  # as objects they are 700 bytes each


def test_a_plan_grows_by_some_bytes_an_image_and_not_by_its_objects(tmp_path):
    def held(count):
        archive = tmp_path / str(count)
        archive.mkdir()
        with (archive / "sheets.idx").open("wb") as file:  # without a block on the disk
            file.write(struct.pack(">IIII", 0x803, count, 28, 28))
            file.truncate(16 + count * 28 * 28)
        gc.collect()
        tracemalloc.start()
        sources, _ = find_sources([str(archive)])
        specs = slice_sources(sources, Budget(), 2)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(sources) == specs.records == count
        return size

    held(1_000)  # so that all is imported
    assert held(10_000) - held(4_000) < 6_000 * 60  # they were 900 each


def test_files_are_put_in_order_and_the_last_of_one_key_stays(monkeypatch):
    monkeypatch.setattr("pipeline.packed._RUN", 100)
    keys = [f"{number:04}" for number in range(1000)] * 2
    random.Random(1).shuffle(keys)
    ordered, last = Ordered(), {}
    assert not ordered
    for count, key in enumerate(keys):
        last[key] = File(f"/{key}", count, 0.5)
        ordered.add(key, last[key], "tar" if count % 2 else None)
    expected = [(key, file, "tar" if file.size % 2 else None) for key, file in sorted(last.items())]
    assert list(ordered) == expected
    assert list(ordered) == expected  # it may be gone through again


def test_files_are_packed():
    files = [File(f"/a/{number}", number, 0.25 * number) for number in range(3000)]
    assert list(packed_files(files)) == files


def test_specs_are_dealt_as_a_list_of_them_would_be():
    drawn = random.Random(2)
    specs = [
        BatchSpec((source(number), in_shard(number)), drawn.choice([100, 200, 300]), (1,), (0, 2))
        for number in range(101)
    ]
    drawn.shuffle(specs)
    packed = Specs(specs)
    assert list(packed) == specs and packed[3] == specs[3] and packed[-2:] == specs[-2:]
    assert (packed.records, packed.batches) == (202, 202)
    assert packed.pixels == sum(spec.pixels for spec in specs)
    ordered = sorted(specs, key=lambda spec: (-spec.pixels, spec.sources[0].key))
    rounds = [ordered[start : start + 3] for start in range(0, 101, 3)]
    # The last round is of two, and is not turned round.
    turned = [one[::-1] if place % 2 and len(one) == 3 else one for place, one in enumerate(rounds)]
    assert list(packed.dealt(3)) == list(itertools.chain(*turned))
    assert packed.dealt(3) == Specs(itertools.chain(*turned)) != packed


def test_ids_are_read_off_a_line_as_off_the_spec():
    odd = Source("caf\udce9.png", "/caf\udce9.png", 1, 1.0)
    for spec in (
        BatchSpec((source(1), source(2), in_shard(3)), 5, (1, 2)),
        BatchSpec((source(1), odd), 5),
        BatchSpec((source(1), source(2)), 5, (1,), (0, 3)),
    ):
        batches = list(spec.batches())
        cells = [f"-{cell:03}" for cell in spec.cells] or [""]
        expected = [f"{batch.id}{cell}" for batch in batches for cell in cells]
        assert list(commits_of(spec.to_json())) == expected
        assert len(batches) == len(spec.cuts) + 1


def test_a_plan_is_read_again_line_by_line_and_held_to_its_digest(tmp_path):
    ledger = Ledger(str(tmp_path))
    specs = slice_sources([source(number) for number in range(100)], Budget(3), 2)
    references = ledger.begin({}, specs, anew=True)
    lines = ledger.plan()
    assert lines is not None
    assert list(lines) == list(specs.lines())
    assert [ledger.spec(one) for one in references] == [f"{line}\n" for line in specs.lines()]
    done = {identity for line in list(specs.lines())[5:] for identity in commits_of(line)}
    assert without(specs.lines(), done) == Specs(specs[:5])
    assert len(without(specs.lines(), set())) == len(specs)
    plan = tmp_path / "ledger/plan.jsonl"
    plan.write_bytes(plan.read_bytes().replace(b"00042.tif", b"00043.tif", 1))
    assert ledger.plan() is None
