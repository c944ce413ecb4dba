"""S3 and Google Cloud Storage behave as a folder does, and what may pass is tried again."""

import errno
import io
import itertools
import json
import logging
import mmap
import os
import sys
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import bagit
import boto3
import google.cloud.storage
import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

from models.saved_model import digest
from pipeline.job import JobCrashedError
from pipeline.ledger import Ledger
from pipeline.lock import Lock, LockedError
from pipeline.repair import repair
from pipeline.summary import Part, finish, fold, summarise
from pipeline.verify import verify_all
from tests.jobs import run
from tests.object_stores import CLOSE, PASS, Proxy, gcs_server, hdfs_server, s3_server
from tests.photographs import saved, small
from tests.test_storage import NAMES
from transforms import storage
from transforms.record import Batch, Record, Source
from transforms.storage import OutageError, StorageError

PHOTO = saved(small(), "PNG")
BUCKET = "negatives"


@dataclass
class Store:
    """A store on this machine: the URL of a bucket in it, and the proxy before it."""

    bucket: str
    proxy: Proxy


@pytest.fixture(scope="module", params=["s3", "gs"])
def server(request):
    fresh = FileSystems._pipeline_options
    with pytest.MonkeyPatch.context() as patch:
        # Pages of three, so that no test needs a thousand objects.
        patch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
        serve = s3_server if request.param == "s3" else gcs_server
        with serve() as address, Proxy(address) as proxy:
            if request.param == "s3":
                patch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
                patch.setenv("AWS_ACCESS_KEY_ID", "key")
                patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
                patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
                boto3.client("s3").create_bucket(Bucket=BUCKET)
            else:
                patch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
                # Requests are counted here, and this one is sent by a thread of the client's own.
                patch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
                google.cloud.storage.Client.create_anonymous_client().create_bucket(BUCKET)
            FileSystems.set_options(PipelineOptions([]))
            yield Store(f"{request.param}://{BUCKET}", proxy)
            FileSystems.set_options(fresh)


@pytest.fixture
def store(server, monkeypatch):
    """An empty bucket, and no long waits."""
    monkeypatch.setattr(storage, "FIRST_WAIT", 0.001)
    server.proxy.fail()
    yield server
    server.proxy.faults.clear()
    server.proxy.moods = lambda: None
    storage.delete_folder(server.bucket)


def put(store, name, data=PHOTO):
    path = f"{store.bucket}/{name}"
    storage.write(path, data, scratch=f"{store.bucket}/.tmp")
    return path


def upload(store, folder, name):
    for file in storage.list_folder(str(folder)):
        put(store, f"{name}/{os.path.relpath(file.path, folder)}", storage.read(file.path))


def everything(store):
    return sorted(file.path.removeprefix(store.bucket + "/") for file in listed(store.bucket))


def listed(folder):
    return list(storage.list_folder(folder))


# For what the emulator of Google Cloud Storage does not do: it ignores the generation that is asked
# for, and takes no names with two dots.
only_s3 = pytest.mark.parametrize("server", ["s3"], indirect=True)

named = pytest.mark.parametrize(
    ("server", "name"),
    [
        pytest.param(server, name, id=f"{server}-{kind}")
        for server in ("s3", "gs")
        for kind, name in NAMES.items()
        # Names in stores are text; and the server of S3 takes none with a line feed.
        if kind != "not-utf-8" and not ("\n" in name and server == "s3")
    ],
    indirect=["server"],
)


@named
def test_a_name_is_written_read_listed_and_deleted_alone(store, name):
    bystanders = [put(store, name, b"") for name in ("a1.png", "all.png", "scan1.png", "whom.png")]
    path = put(store, name)
    assert storage.exists(path)
    assert storage.read(path) == PHOTO
    with storage.opened(path) as file:
        assert file.read() == PHOTO
    (found,) = [file for file in listed(store.bucket) if file.path == path]
    assert found.size == len(PHOTO)
    assert abs(found.modified - time.time()) < 60
    storage.delete(path)
    storage.delete(path)  # no longer there, which is what was asked
    assert not storage.exists(path)
    assert sorted(file.path for file in listed(store.bucket)) == bystanders


def test_a_write_is_one_request_and_leaves_nothing_else(store):
    put(store, "images/a.png", b"older")
    store.proxy.fail()
    put(store, "images/a.png")
    assert len(store.proxy.seen) == 1
    assert everything(store) == ["images/a.png"]
    assert storage.read(f"{store.bucket}/images/a.png") == PHOTO


def test_a_folder_is_listed_and_not_its_neighbours_nor_what_it_matches_as_a_glob(store):
    inside = [put(store, f"box[1]/{name}") for name in ("a.jpg", "deep/er/b.jpg")]
    put(store, "box[1]0/c.jpg")
    put(store, "box1/d.jpg")
    put(store, "box[1].jpg")
    for folder in (f"{store.bucket}/box[1]", f"{store.bucket}/box[1]/"):
        assert [file.path for file in listed(folder)] == inside
    assert listed(f"{store.bucket}/box[2]") == []


def test_an_empty_object_that_stands_for_a_folder_is_no_file(store):
    put(store, "box/", b"")
    put(store, "box/a.jpg")
    put(store, "box/empty.jpg", b"")
    assert everything(store) == ["box/a.jpg", "box/empty.jpg"]
    storage.delete_folder(f"{store.bucket}/box")
    assert not storage.exists(f"{store.bucket}/box/")


def test_a_listing_of_several_pages_is_whole(store):
    names = [f"{n:02}.jpg" for n in range(10)]
    for name in names:
        put(store, name, b"x")
    store.proxy.fail()
    assert everything(store) == names
    if store.bucket.startswith("s3"):  # the emulator of the other knows no pages
        assert len(store.proxy.seen) == 4


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*.jpg", ["a.jpg"]),
        ("box/*.jpg", ["box/b.jpg"]),
        ("**.jpg", ["a.jpg", "box/b.jpg", "box/deep/c.jpg"]),
        ("b?x/[a-c].*", ["box/b.jpg"]),
        ("**/d*", ["box/d e.png"]),
        ("none/*", []),
    ],
)
def test_a_glob_lists_what_it_matches(store, pattern, matches):
    for name in ("a.jpg", "box/b.jpg", "box/deep/c.jpg", "box/d e.png"):
        put(store, name)
    found = storage.list_glob(f"{store.bucket}/{pattern}")
    assert sorted(file.path for file in found) == [f"{store.bucket}/{name}" for name in matches]


def test_buckets_are_not_globbed(store):
    with pytest.raises(StorageError, match="name one bucket"):
        list(storage.list_glob(store.bucket.replace("negatives", "neg*") + "/a.jpg"))


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("", True),
        ("box", True),
        ("box/", True),
        ("box/deep", True),
        ("box/deep/a.jpg", True),
        ("bo", False),
        ("box/deep/a", False),
        ("box/deep/a.jpg/", False),
    ],
)
def test_a_folder_exists_where_something_is_below_it(store, name, there):
    put(store, "box/deep/a.jpg")
    put(store, "box-0/a.jpg")  # sorts before box/
    assert storage.exists(f"{store.bucket}/{name}".rstrip("/") + "/" * name.endswith("/")) == there


def test_a_file_is_found_and_a_folder_is_none(store):
    put(store, "box/a.tar.gz")
    path = put(store, "box/a.tar")
    found = storage.find_file(path)
    assert (found.path, found.size) == (path, len(PHOTO))
    assert storage.find_file(f"{store.bucket}/box") is None
    assert storage.find_file(f"{store.bucket}/box/a.t") is None


def test_deleting_a_folder_leaves_its_neighbours(store):
    for name in ("a[1]/b/c.jpg", "a[1]/d.jpg", "a1/b/c.jpg", "a[1]2.jpg"):
        put(store, name)
    storage.delete_folder(f"{store.bucket}/a[1]")
    storage.delete_folder(f"{store.bucket}/none")
    assert everything(store) == ["a1/b/c.jpg", "a[1]2.jpg"]


def test_an_object_of_no_bytes_is_read(store):
    path = put(store, "empty.jpg", b"")
    assert storage.read(path) == b""
    with storage.opened(path) as file:
        assert file.read() == b""


LARGE = np.random.default_rng(0).bytes(24 << 20)


def test_of_a_large_object_only_what_is_read_is_fetched(store):
    path = put(store, "large.bin", LARGE)
    store.proxy.fail()
    with storage.opened(path) as file:
        assert file.read(1000) == LARGE[:1000]
        file.seek(-100, os.SEEK_END)
        assert file.read() == LARGE[-100:]
        file.seek(12_345_678)
        assert file.read(10) == LARGE[12_345_678:12_345_688]
        assert file.tell() == 12_345_688
    assert sum(size for *_, size in store.proxy.seen) < 200_000


def test_a_large_object_is_read_in_order_in_few_requests(store):
    path = put(store, "large.bin", LARGE)
    store.proxy.fail()
    with storage.opened(path) as file:
        pieces = list(iter(lambda: file.read(100_003), b""))
    assert b"".join(pieces) == LARGE
    assert len(store.proxy.seen) < 14
    with storage.opened(path) as file:
        assert file.read() == LARGE


def test_a_large_file_goes_out_of_a_mapped_file_and_comes_in_by_pieces(store, tmp_path):
    (tmp_path / "large.bin").write_bytes(LARGE)
    with (tmp_path / "large.bin").open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    path = put(store, "large.bin", mapped)
    pieces = list(storage.chunks(path))
    assert max(map(len, pieces)) <= len(LARGE) / 3
    assert b"".join(pieces) == LARGE


def test_an_archive_in_an_archive_is_read_by_seeking(store):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        for n in range(24):
            zipped.writestr(f"{n}.bin", LARGE[n << 20 : (n + 1) << 20])
    path = put(store, "box.zip", packed.getvalue())
    store.proxy.fail()
    with storage.opened(path) as file, zipfile.ZipFile(file) as zipped:
        assert zipped.read("17.bin") == LARGE[17 << 20 : 18 << 20]
    assert sum(size for *_, size in store.proxy.seen) < 4 << 20


@only_s3
def test_an_object_that_is_replaced_while_it_is_read_is_an_error(store):
    path = put(store, "large.bin", LARGE)
    with storage.opened(path) as file:
        file.read(10)
        put(store, "large.bin", LARGE[::-1])
        file.seek(20 << 20)
        with pytest.raises(StorageError, match=r"cannot read .*large\.bin"):
            file.read(10)


def list_it(path):
    assert [file.path for file in listed(path.rpartition("/")[0])] == [path]


def read_some(path):
    with storage.opened(path) as file:
        assert file.read(10) == PHOTO[:10]


OPERATIONS = {
    "read": lambda path: storage.read(path),
    "opened": read_some,
    "write": lambda path: storage.write(path, PHOTO, scratch=".tmp"),
    "exists": lambda path: storage.exists(path),
    "list": list_it,
    "delete": lambda path: storage.delete(path),
}
operations = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def requests(store, operation, path):
    """Count the requests of an operation that nothing disturbs."""
    store.proxy.fail()
    operation(path)
    put(store, "box/a.png")
    return len(store.proxy.seen) - 1


@operations
@pytest.mark.parametrize("fault", [429, 500, 503, CLOSE])
def test_what_passes_is_tried_again(store, operation, fault, caplog):
    path = put(store, "box/a.png")
    usual = requests(store, operation, path)
    store.proxy.fail(fault, fault)
    with caplog.at_level(logging.WARNING, "heliograph"):
        operation(path)
    if fault != CLOSE or any(size for *_, size in store.proxy.seen):
        assert len(store.proxy.seen) == usual + 2
        assert [path.rpartition("/")[0] in line for line in caplog.messages] == [True, True]
        assert all("again in 0.0 s" in line for line in caplog.messages)


@operations
def test_what_does_not_pass_is_given_up_after_five_tries_and_no_more(store, operation):
    path = put(store, "box/a.png")
    store.proxy.fail(*[500] * 100)
    with pytest.raises(OutageError, match=rf"{store.bucket}/box.*, tried 5 times: .*500"):
        operation(path)
    # Once more, for its neighbours, where this object alone might be to blame.
    reads = operation in [OPERATIONS[name] for name in ("read", "opened", "exists")]
    assert len(store.proxy.seen) == storage.TRIES + reads


@pytest.mark.parametrize("operation", [storage.read, read_some, storage.exists])
def test_an_object_that_always_fails_is_no_outage_of_the_store(store, operation):
    path = put(store, "box/a.png")
    store.proxy.fail(*[500] * storage.TRIES)
    with pytest.raises(StorageError, match="tried 5 times") as failed:
        operation(path)
    assert not isinstance(failed.value, OutageError)


@operations
def test_a_missing_permission_is_said_and_not_tried_again(store, operation):
    path = put(store, "box/a.png")
    store.proxy.fail(403)
    with pytest.raises(StorageError, match=rf"{store.bucket}/box.*: no permission: .*403"):
        operation(path)
    assert len(store.proxy.seen) == 1


@pytest.mark.parametrize("operation", [storage.read, read_some])
def test_what_is_not_there_is_not_tried_again(store, operation):
    with pytest.raises(StorageError, match=rf"cannot read {store.bucket}/gone\.jpg"):
        operation(f"{store.bucket}/gone.jpg")
    assert len(store.proxy.seen) == 1


def test_a_bucket_that_is_not_there_is_an_error(store):
    elsewhere = store.bucket.replace(BUCKET, "no-such-bucket")
    for operation in (listed, storage.read, OPERATIONS["write"]):
        with pytest.raises(StorageError, match="no-such-bucket"):
            operation(f"{elsewhere}/a.jpg")
    assert not storage.exists(f"{elsewhere}/a.jpg")


def test_a_server_that_is_not_there_is_an_error_that_names_the_path(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        patch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
        patch.setattr(FileSystems, "_pipeline_options", PipelineOptions([]))
        with pytest.raises(StorageError, match=rf"cannot read {store.bucket}/a\.jpg, tried 5 "):
            storage.read(f"{store.bucket}/a.jpg")


def test_retries_are_counted_in_a_pipeline(store):
    path = put(store, "a.png")
    store.proxy.fail(503, 500)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | beam.Create([path]) | beam.Map(storage.read)
    result = pipeline.run()
    result.wait_until_finish()
    wanted = beam.metrics.MetricsFilter().with_namespace("heliograph").with_name("storage_retries")
    (counter,) = result.metrics().query(wanted)["counters"]
    assert counter.committed == 2


def test_a_model_is_copied_whole_and_the_copy_removed(store, models):
    upload(store, models / "identity", "models/identity")
    with storage.local_folder(f"{store.bucket}/models/identity") as copy:
        assert digest(Path(copy)) == digest(models / "identity")
    assert not os.path.exists(copy)


@only_s3
def test_a_folder_that_leads_out_of_its_copy_is_refused(store):
    put(store, "model/../../evil")
    with pytest.raises(StorageError, match="leads out"), storage.local_folder(store.bucket):
        pass


def test_what_is_not_there_is_not_copied(store):
    none = f"{store.bucket}/none"
    with pytest.raises(StorageError, match="nothing in it"), storage.local_folder(none):
        pass


@pytest.fixture(scope="module")
def job_here(tmp_path_factory, photographs, models, heliograph):
    """An archive of four photographs, and the output of a job on it."""
    folder = tmp_path_factory.mktemp("here")
    for n, (name, pixels) in enumerate(photographs.items()):
        path = folder / "archive" / f"box [{n}]" / f"{name}.{'png' if n else 'jpg'}"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    model = models / "identity"
    heliograph("restore", folder / "archive", folder / "output", "--model", model, "--workers", 1)
    return folder


def test_a_job_from_store_to_store_equals_the_same_job_here(store, heliograph, job_here, models):
    upload(store, job_here / "archive", "archive")
    upload(store, models / "identity", "identity")
    store.proxy.fail(500)
    settings, flags = dict(os.environ), []
    if store.bucket.startswith("s3"):
        # As options of Beam's, which then must reach the driver and the workers.
        settings = {name: value for name, value in settings.items() if not name.startswith("AWS_")}
        flags = [
            *("--s3_endpoint_url", store.proxy.url),
            *("--s3_access_key_id", "key"),
            *("--s3_secret_access_key", "secret"),
            *("--s3_region_name", "us-east-1"),
        ]
    there = f"{store.bucket}/output"
    job = ("restore", f"{store.bucket}/archive", there, "--model", f"{store.bucket}/identity")
    heliograph(*job, "--workers", 2, *flags, env=settings)

    here = job_here / "output"
    names = sorted(
        path.relative_to(here).as_posix() for path in (here / "images").rglob("*") if path.is_file()
    )
    assert len(names) == 4
    images = sorted(file.path.removeprefix(there + "/") for file in listed(f"{there}/images"))
    assert images == names
    assert all(storage.read(f"{there}/{name}") == (here / name).read_bytes() for name in names)
    assert listed(f"{there}/.tmp") == []
    assert {"summary.json", "metrics.parquet"} < {
        file.path.removeprefix(there + "/") for file in listed(there)
    }


def test_of_jobs_that_claim_an_output_in_a_store_together_one_holds_it(store):
    out = f"{store.bucket}/output"
    held, refused = [], []

    def claim(number):
        try:
            with Lock(out):
                held.append(number)
                while len(refused) < 2:
                    time.sleep(0.01)
        except LockedError as error:
            refused.append(str(error))

    jobs = [threading.Thread(target=claim, args=(number,)) for number in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert (len(held), len(refused)) == (1, 2)
    assert all(f"another job holds {out}: process {os.getpid()}" in said for said in refused)
    assert listed(out) == []


FAULTY = (500, 503, CLOSE)


def sums_of(output):
    """What a job has written that does not tell where: keys, statuses and digests; and images."""
    table = pq.read_table(io.BytesIO(storage.read(f"{output}/metrics.parquet")))
    columns = ["key", "status", "source_sha256", "derivative_sha256"]
    images = {file.path[len(output) :] for file in storage.list_folder(f"{output}/images")}
    return table.select(columns).to_pylist(), images


def degraded(store, output, code=0):
    job = ("degrade", f"{store.bucket}/archive", output, "--recipe", "jpeg:1", "--batch_size", 1)
    return run(*job, code=code)


def test_a_store_that_fails_one_request_in_ten_loses_nothing(store, job_here, tmp_path):
    upload(store, job_here / "archive", "archive")
    degraded(store, str(tmp_path / "whole"))
    output = f"{store.bucket}/output"
    store.proxy.fail_some(0.1, 5, *FAULTY)
    degraded(store, output)
    store.proxy.moods = lambda: None
    assert sum(store.proxy.failed.values()) > 5, store.proxy.failed
    print(f"{len(store.proxy.seen)} requests, failed: {dict(store.proxy.failed)}")
    assert sums_of(output) == sums_of(str(tmp_path / "whole"))
    assert listed(f"{output}/.tmp") == listed(f"{output}/.lock") == []


@pytest.mark.parametrize("place", ["archive", "output"])
def test_a_store_that_goes_away_ends_the_job_and_blames_no_image(store, job_here, tmp_path, place):
    upload(store, job_here / "archive", "archive")
    degraded(store, str(tmp_path / "whole"))
    output = str(tmp_path / "out") if place == "archive" else f"{store.bucket}/output"
    batches = tmp_path / "out/ledger/batches"

    def gone():
        if place == "archive":
            begun = batches.is_dir() and any(batches.iterdir())
        else:  # after the lock's three files, the ledger's three, an image and its commit record
            seen = [verb == "PUT" or "/upload/" in path for verb, path, _ in store.proxy.seen]
            begun = sum(seen) >= 8
        # Every try of one call, and the question whether the store is there.
        return 503 if begun and store.proxy.failed[503] <= storage.TRIES else None

    store.proxy.fail()
    store.proxy.failed.clear()
    store.proxy.moods = gone
    with pytest.raises(JobCrashedError, match=r"cannot .* tried 5 times: .*503"):
        degraded(store, output)
    store.proxy.moods = lambda: None
    degraded(store, output)
    assert sums_of(output) == sums_of(str(tmp_path / "whole"))


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_shards_go_to_a_store_and_come_back(store, job_here, tmp_path, kind, caplog):
    def there(name):
        output = f"{store.bucket}/{name}"
        assert run("convert", job_here / "archive", output, "--output_format", kind).code == 0

    there("first")
    sent = enumerate(verb == "PUT" or "/upload/" in path for verb, path, _ in store.proxy.seen)
    # The first files are the lock's, three of them, and the ledger's: that a run has begun, the
    # plan and the job.
    *_, shard = itertools.islice((number for number, writes in sent if writes), 7)
    store.proxy.fail(*[PASS] * shard, 503)
    there(kind)
    assert "storage: 1 calls were tried again" in caplog.text
    assert len(listed(f"{store.bucket}/{kind}/shards")) == 1
    assert run("convert", f"{store.bucket}/{kind}", tmp_path / "back").code == 0
    here = job_here / "archive"
    images = [path for path in here.rglob("*") if path.is_file()]
    assert len(images) == 4
    for path in images:
        back = tmp_path / "back" / "images" / path.relative_to(here)
        assert back.read_bytes() == path.read_bytes()


def test_a_bag_is_made_in_a_store_and_is_one_where_it_is_copied_to(store, tmp_path):
    names = ("a.png", "box 1/b.png", "box 1/c.png")
    for name in names:
        put(store, f"archive/{name}")
    there = f"{store.bucket}/output"
    command = ("convert", f"{store.bucket}/archive", there, "--batch_size", 2)
    for again in ((), ("--operator", "A. Archivist")):
        assert run(*command, "--package", "bagit,iiif,premis", *again).code == 0
        assert listed(f"{there}/data/.tmp") == []
    with storage.local_folder(there) as copy:
        found = bagit.Bag(copy)
        assert found.validate()
        assert found.info["Contact-Name"] == "A. Archivist"
        assert {f"data/images/{name}" for name in names} < set(found.payload_files())
        assert {f"data/premis/{name}.xml" for name in names} < set(found.payload_files())
    assert run("convert", there, tmp_path / "back").code == 0
    assert all((tmp_path / "back" / "images" / name).read_bytes() == PHOTO for name in names)


def test_generations_in_a_store_are_found_and_repaired(store):
    for name in ("a.png", "box/b.png"):
        put(store, f"archive/{name}")
    there = f"{store.bucket}/output"
    command = ("convert", f"{store.bucket}/archive", there)
    assert run(*command).output == there
    beside = run(*command, "--output_format", "parquet").output
    assert beside.rpartition("/")[0] == f"{there}/generations"
    assert verify_all(there)["sound"] and repair(there)["sound"]
    images = f"{there}/images"
    storage.delete(f"{images}/box/b.png")
    put(store, "output/images/a.png", b"spoiled")
    put(store, "output/images/letter.txt", b"mine")
    storage.delete(f"{beside}/ledger/job.json")
    storage.delete(f"{beside}/metrics.parquet")
    first, second = repair(there)["results"]
    assert (first["left"], second["left"]) == (2, 0)
    assert storage.read(f"{there}/aside/1/images/letter.txt") == b"mine"
    assert [file.path for file in storage.list_if_there(images)] == []
    assert storage.exists(f"{beside}/metrics.parquet")
    for more in ((), ("--output_format", "parquet")):
        assert run(*command, *more).code == 0
    found = verify_all(there, deep=True)
    assert found["sound"] and len(found["generations"]) == 1
    assert not listed(f"{there}/.lock")


def test_the_server_and_keys_may_come_from_beams_options(monkeypatch):
    with s3_server() as address:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.delenv(name, raising=False)
        flags = [
            f"--s3_endpoint_url={address}",
            "--s3_access_key_id=key",
            "--s3_secret_access_key=secret",
            "--s3_region_name=us-east-1",
        ]
        monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions(flags))
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        client = boto3.client("s3", "us-east-1", endpoint_url=address, **keys)
        client.create_bucket(Bucket=BUCKET)
        storage.write(f"s3://{BUCKET}/a.jpg", PHOTO, scratch=f"s3://{BUCKET}/.tmp")
        assert storage.read(f"s3://{BUCKET}/a.jpg") == PHOTO


def test_hadoop_is_a_folder_too(monkeypatch, tmp_path):
    with hdfs_server(tmp_path) as port:
        flags = ["--hdfs_host=127.0.0.1", f"--hdfs_port={port}", "--hdfs_user=archivist"]
        monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions(flags))
        root, scratch = "hdfs://archive", "hdfs://archive/.tmp"
        names = ["a.jpg", "box [1]/Zürich 100%.png", "box [1]/deep/empty.jpg", "box 1/b.jpg"]
        for name in names:
            for data in (b"older", b"" if "empty" in name else PHOTO):
                storage.write(f"{root}/{name}", data, scratch)
        found = {file.path: file for file in listed(root)}
        assert sorted(found) == [f"{root}/{name}" for name in sorted(names)]
        assert found[f"{root}/a.jpg"].size == len(PHOTO)
        assert abs(found[f"{root}/a.jpg"].modified - time.time()) < 60
        assert [file.path for file in listed(f"{root}/box [1]")] == [
            f"{root}/{name}" for name in names[1:3]
        ]
        assert [file.path for file in storage.list_glob(f"{root}/*/*.jpg")] == [
            f"{root}/{names[3]}"
        ]
        assert storage.read(f"{root}/{names[1]}") == PHOTO
        with storage.opened(f"{root}/a.jpg") as file:
            file.seek(-10, os.SEEK_END)
            assert file.read() == PHOTO[-10:]
        assert storage.exists(f"{root}/box 1")
        assert storage.find_file(f"{root}/a.jpg").size == len(PHOTO)
        storage.delete(f"{root}/a.jpg")
        assert not storage.exists(f"{root}/a.jpg")
        with pytest.raises(StorageError, match=r"cannot read hdfs://archive/a\.jpg"):
            storage.read(f"{root}/a.jpg")
        storage.delete_folder(f"{root}/box [1]")
        assert [file.path for file in listed(root)] == [f"{root}/{names[3]}"]
        assert list((tmp_path / "archive" / ".tmp").iterdir()) == []


def test_missing_credentials_are_said_at_once(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions([]))
    with pytest.raises(StorageError, match=r"s3://b/a\.jpg: no permission: .*credentials"):
        storage.read("s3://b/a.jpg")


@pytest.mark.parametrize(
    ("path", "module", "extra"),
    [
        ("gs://b/a.jpg", "google.cloud.storage", "gcp"),
        ("s3://b/a.jpg", "boto3", "aws"),
        ("azfs://account/b/a.jpg", "azure.storage.blob", "azure"),
        ("hdfs://b/a.jpg", "hdfs", "hdfs"),
    ],
)
def test_a_missing_extra_is_an_error_that_says_what_to_install(monkeypatch, path, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions([]))
    for operation in (storage.read, storage.exists, listed, storage.delete):
        with pytest.raises(StorageError, match=rf"{path}.*: pip install 'heliograph\[{extra}\]'"):
            operation(path)


@pytest.mark.parametrize("path", ["ftp://b/a.jpg", "S3://b/a.jpg", "https://b/a.jpg"])
def test_an_unknown_scheme_is_an_error_that_lists_the_known_ones(path):
    with pytest.raises(StorageError, match=r"there are gs://, s3://, azfs://, hdfs:// and local"):
        storage.read(path)


def test_a_path_without_a_bucket_is_an_error(monkeypatch):
    monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions(["--no_auth"]))
    with pytest.raises(StorageError, match="no bucket in the path"):
        storage.read("gs:///a.jpg")


def test_what_a_network_folder_refuses_for_a_while_is_tried_again(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(storage, "FIRST_WAIT", 0.001)
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    refusals = [OSError(errno.ESTALE, "Stale file handle"), TimeoutError(errno.ETIMEDOUT, "late")]

    real = os.stat

    def moody(path, **settings):
        if refusals and str(path).endswith("a.jpg"):
            raise refusals.pop()
        return real(path, **settings)

    monkeypatch.setattr(storage.os, "stat", moody)
    assert storage.read(str(tmp_path / "a.jpg")) == PHOTO
    assert len(caplog.messages) == 2


def test_a_summary_is_made_in_a_store(store):
    output = f"{store.bucket}/summed"
    ledger = Ledger(output)
    ledger.begin({"planned": 3}, [], anew=True)
    for number in range(3):
        source = Source(f"{number}.png", f"/archive/{number}.png", 10, 0.5)
        ledger.commit(Batch(f"b{number}", (Record(source=source, metrics={"mse_gain": number}),)))
    runs = f"{ledger.scratch}/runs"
    parts = [fold(ledger, [batch], runs, ledger.scratch) for batch in ("b2", "b0", "b1")]
    whole = Part()
    for part in parts:
        whole.merge(part)
    told = finish(ledger, whole)
    table = pq.read_table(io.BytesIO(storage.read(f"{output}/metrics.parquet")))
    assert table["key"].to_pylist() == ["0.png", "1.png", "2.png"]
    assert told == json.loads(storage.read(f"{output}/summary.json")) == summarise(output)
    assert told["metrics"]["mse_gain"]["mean"] == 1
