"""A process that takes mutated files through our functions, one after the other, and says how.

python -m tests.fuzzing SEED START STOP

Says `begin NUMBER` before each case and a line of JSON after it. What kills it, or takes too long
or too much memory, is then known by the last number.
"""

import contextlib
import faulthandler
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests import mutations
from transforms import codec, metadata, shards, storage
from transforms.metadata import Origin, Provenance, Tool
from transforms.names import safe_path
from transforms.record import Member, Record, Source
from transforms.shards.shard import ShardError

CPU_SECONDS = 10.0
MEMORY = 1 << 30  # bytes beyond what the process has when it begins
MOST_MEMBERS = 20_000  # that a file of some kilobytes may be listed as

_TOOL = Tool("Heliograph 1", "algorithmicallyEnhanced", "restored", (("seed", "1"),))


def use_image(data):
    """Take an image file through probing, decoding, its metadata, and encoding."""
    codec.probe(data)
    try:
        pages = codec.decode_pages(data, max_pixels=mutations.MOST_PIXELS)
    except codec.CodecError as error:
        assert str(error), "without a reason"
        return "refused"
    for page in pages[:3]:
        height, width, channels = page.pixels.shape
        assert 0 < height * width <= mutations.MOST_PIXELS and channels in (1, 3)
        assert page.pixels.dtype in ("uint8", "uint16")
        assert page.alpha is None or page.alpha.shape == (height, width)
        form, samples = page.form, page.pixels
        json.dumps([form.dpi, form.mode, form.bits, page.warnings], allow_nan=False)
        told = metadata.recorded(form.metadata, Provenance(_TOOL, Origin("key", "0" * 64), "PNG"))
        for name in (None, "PNG", "TIFF", "JPEG"):
            with contextlib.suppress(codec.CodecError):
                form, samples = codec.own_colours(
                    page.form, page.pixels, page.pixels, page.native, name
                )
                form = codec.Form(**{**_fields(form), "metadata": told.blocks})
                codec.encode(form, samples, page.alpha, name=name)
    return "decoded"


def _fields(form):
    return {name: getattr(form, name) for name in form.__dataclass_fields__}


def use_container(path):
    """List the images of a container, read each, and decode it."""
    kind = shards.shard_kind(path)
    known = shards.FORMATS[kind]
    found = {"members": 0, "decoded": 0, "refused": 0}
    try:
        listed = []
        for member, size in shards.members(path, known):
            listed.append(member)
            assert 0 <= size < 1 << 63 and 0 <= member.beside < 1 << 63, "more than a table holds"
            assert len(listed) <= MOST_MEMBERS, "a small file is listed as very many images"
    except ShardError as error:
        assert str(error), "without a reason"
        return "refused"
    names = [member.name for member in listed]
    assert len(set(names)) == len(names), "two images of one name"
    with shards.OpenShard(shards.USUAL_COLUMNS) as shard:
        for member in listed[:200]:
            found["members"] += 1
            _check_name(path, member)
            try:
                content = shard.get(path, member)
                if content.pixels is None:
                    codec.decode_pages(content.encoded, max_pixels=mutations.MOST_PIXELS)
                found["decoded"] += 1
            except (ShardError, codec.CodecError) as error:
                assert str(error), "without a reason"
                found["refused"] += 1
    return json.dumps(found)


def _check_name(path, member: Member):
    source = Source(f"a{Path(path).suffix}#{member.name}", path, 0, 0.0, member)
    parts = Record(source=source).mirror.split("/")
    assert not {"", ".", ".."} & set(parts), source.mirror
    assert all(len(os.fsencode(part)) <= 255 for part in parts), source.mirror
    assert safe_path(member.name) == safe_path(safe_path(member.name))
    assert json.loads(json.dumps([member.name]))[0] == member.name


def _peak():
    """The most memory since the last call, in bytes."""
    told = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(told)


def _limit_memory():
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))


def main():
    seed, start, stop = sys.argv[1], *map(int, sys.argv[2:])
    use_image(mutations.specimens.image("JPEG", "plain"))  # so that all is imported
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)
    _limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(start, stop):
            case = mutations.case(seed, number)
            print(f"begin {number}", flush=True)
            before, began = _peak(), time.process_time()
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            try:
                if case.is_container:
                    path = storage.join(folder, f"{number}{case.ending}")
                    Path(path).write_bytes(case.data)
                    how = use_container(path)
                    os.remove(path)
                else:
                    how = use_image(case.data)
            except BaseException:
                how = traceback.format_exc()
            signal.setitimer(signal.ITIMER_PROF, 0)
            spent = time.process_time() - began
            _said(number, case, how, spent, _peak() - before)


def _said(number, case, how, seconds, memory):
    told = {
        "number": number,
        "kind": case.kind,
        "variant": case.variant,
        "mutations": case.how,
        "how": how,
        "seconds": round(seconds, 3),
        "memory": memory,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
