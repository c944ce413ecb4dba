"""Count the requests that a job makes to an object store, and what each image and batch adds.

    python benchmarks/store_requests.py [--images N]

An S3 of this machine (moto, as the tests have it) holds an archive of small photographs, and whole
jobs go from it to it in this process: N images in batches of 4, 2 N in batches of 4 and 2 N in
batches of 8. Their requests are a number for the job, one for each batch and one for each image,
which three jobs tell apart. Listing is apart: a page of it is a thousand objects.
"""

import argparse
import io
import os
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

IMAGES, BUCKET = 32, "negatives"
PLACES = ("ledger/batches", "ledger/marks", "ledger", "images", "archive", ".lock", "output/.tmp")


def kind_of(method: str, address: str) -> str:
    """Name a request by its method and what it is about."""
    asked = urlsplit(address)
    query = parse_qs(asked.query)
    where = query["prefix"][0] if "prefix" in query else asked.path
    listing = method == "GET" and "list-type" in query
    place = next((name for name in PLACES if name in where), "others")
    return f"{'LIST' if listing else method} {place}"


def job(proxy, bucket: str, count: int, size: int) -> tuple[Counter[str], int]:
    """Run a job on so many images in batches of a size; count its requests, and its batches."""
    from PIL import Image

    from pipeline.ledger import Ledger
    from tests.jobs import run
    from tests.photographs import small
    from transforms import storage

    archive, output = f"{bucket}/archive-{count}-{size}", f"{bucket}/output-{count}-{size}"
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(small(height=24, width=24 + number)).save(file, "PNG")
        storage.write(f"{archive}/{number:04}.png", file.getvalue(), scratch=f"{bucket}/.tmp")
    proxy.seen.clear()
    options = ("--recipe", "grayscale", "--batch_size", size)
    run("degrade", archive, output, *options, code=0)
    found = Counter(kind_of(method, path) for method, path, _ in proxy.seen)
    return found, len(Ledger(output).committed())


def main() -> None:
    """Run three jobs, and print what they tell."""
    import boto3
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    from tests.object_stores import Proxy, s3_server

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=IMAGES, metavar="N")
    count = parser.parse_args().images
    with s3_server() as address, Proxy(address) as proxy:
        os.environ |= {
            "AWS_ENDPOINT_URL_S3": proxy.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        FileSystems.set_options(PipelineOptions([]))
        jobs = [job(proxy, f"s3://{BUCKET}", *one) for one in ((count, 4), (2 * count, 4))]
        jobs.append(job(proxy, f"s3://{BUCKET}", 2 * count, 8))
    (few, batches), (many, twice), (large, half) = jobs
    print(f"{batches}, {twice} and {half} batches of {count}, {2 * count} and {2 * count} images")
    print(f"{'':24}{'a job':>8}{'a batch':>9}{'an image':>10}")
    total = [0.0, 0.0, 0.0]
    for kind in sorted(few.keys() | many.keys() | large.keys()):
        of_batch = (many[kind] - large[kind]) / (twice - half)
        of_image = (many[kind] - few[kind] - of_batch * (twice - batches)) / count
        of_job = few[kind] - of_batch * batches - of_image * count
        print(f"{kind:24}{of_job:8.1f}{of_batch:9.2f}{of_image:10.2f}")
        if not kind.startswith("LIST"):
            total = [sum(one) for one in zip(total, (of_job, of_batch, of_image), strict=True)]
    print(f"{'all but listing':24}{total[0]:8.1f}{total[1]:9.2f}{total[2]:10.2f}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
