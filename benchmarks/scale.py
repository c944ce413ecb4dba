"""Plan, commit and summarise very many records without pixels: how cost grows with their number.

    python benchmarks/scale.py [--records N ...] [--kind KIND] [--command evaluate]
        [--phases PHASE ...] [--work FOLDER] [--keep]

Of each number, an archive is made that costs nothing to make: IDX files of 10,000 gray images of
28 x 28 pixels, as MNIST is one of 60,000, which are sparse and hold no block of the disk. Or, by
--kind, that many files in folders of a thousand, hard links to a JPEG of 48 x 64 pixels; a CSV list
of them; or TFRecord files, tars or Parquet files of 10,000 such JPEGs. Then processes of their own
do what a job does, with its own code:

plan        all that `heliograph restore` does before its graph runs: list, compare with the
            ledger, slice into batches, write the plan
commit      two processes, as two workers, fetch specs by their references and commit every batch:
            all that FetchSpecs and Commit do. Of each record nothing is made up but what reading,
            the model and the scores would have found
summarise   metrics.parquet, failures.jsonl and summary.json, in one process
graph       the graph of the job with all references, as runners are given it, not run
again       what the same command does the next night, when nothing has changed, before it says so
one more    the same, when an image has come into the archive: the ledger is compared row by row

Seconds are the clock's and the processors', both with the start of Python and its imports; peak is
the kernel's count of resident memory (ru_maxrss), that of several processes added up. Ends with an
error where 10,000,000 records take more than 15 minutes by the clock to plan and summarise, fewer
take more than their share of that and 10 s by the processor (which a busy machine stretches less),
either takes more than 2 GB, or not every record is accounted for.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

RECORDS = (1_000, 10_000, 100_000)
GOAL, MOST_SECONDS, MOST_MEMORY = 10_000_000, 900.0, 2e9
START = 10.0  # seconds
SIDE, A_SHARD, A_FOLDER, SHARDS_A_FOLDER = 28, 10_000, 1_000, 100
WORKERS = 2
RECIPE = "gaussian_noise:sigma=25"
COMMANDS = {
    "restore": ("--model", "denoise"),
    "evaluate": ("--model", "denoise", "--recipe", RECIPE),
}
PHASES = ("plan", "graph", "commit", "summarise", "again", "one more")
FAILED_EVERY = 1_000


# -- archives --------------------------------------------------------------------------------------


def make_idx(archive: Path, count: int) -> Path:
    """Make IDX files without blocks, of at most 10,000 images each."""
    for number, start in enumerate(range(0, count, A_SHARD)):
        folder = archive / f"box {number // SHARDS_A_FOLDER:04}"
        folder.mkdir(parents=True, exist_ok=True)
        images = min(A_SHARD, count - start)
        with (folder / f"sheets {number:06}.idx").open("wb") as file:
            file.write(struct.pack(">IIII", 0x803, images, SIDE, SIDE))
            file.truncate(16 + images * SIDE * SIDE)
    return archive


def make_files(archive: Path, count: int) -> Path:
    """Link that many names to photographs, few enough for a file system's count of links."""
    from resume import encodings

    _, encoded = encodings()[0]
    original = archive.parent / "original.jpg"
    for number in range(count):
        folder = archive / f"box {number // A_FOLDER:06}"
        if number % A_FOLDER == 0:
            folder.mkdir(parents=True)
        if number % 50_000 == 0:
            original = archive.parent / f"original {number}.jpg"
            original.write_bytes(encoded)
        os.link(original, folder / f"scan {number:08}.jpg")
    return archive


def make_list(archive: Path, count: int) -> Path:
    """Link the same, and list the names."""
    make_files(archive, count)
    path = archive.parent / "list.csv"
    with path.open("w") as file:
        file.write("path,title\n")
        file.writelines(
            f"{archive.name}/box {number // A_FOLDER:06}/scan {number:08}.jpg,sheet {number}\n"
            for number in range(count)
        )
    return path


def make_shards(kind: str, archive: Path, count: int) -> Path:
    """Write shards of at most 10,000 photographs each."""
    from resume import of_shard

    from transforms.shards.writers import WRITERS, Sample

    archive.mkdir()
    writer = WRITERS[kind]
    for start in range(0, count, A_SHARD):
        images = of_shard(start, min(A_SHARD, count - start))
        samples = [Sample(name, encoded, {}, {}, None) for name, encoded in images]
        with (archive / f"{start:08}{writer.extension}").open("wb") as file:
            file.writelines(writer.pack(samples).parts)
    return archive


KINDS: dict[str, Callable[[Path, int], Path]] = {
    "idx": make_idx,
    "files": make_files,
    "list": make_list,
    **{name: partial(make_shards, name) for name in ("tfrecord", "webdataset", "parquet")},
}


# -- phases, each in a process of its own ----------------------------------------------------------


def plan(command: str, archive: str, output: str) -> dict:
    """Do all that a job does before its graph runs."""
    from pipeline.ledger import Ledger

    made, todo, options = _prepared(command, archive, output)
    from pipeline import run

    ledger = Ledger(made.output)
    references = ledger.begin(run._facts(made, todo, options), todo.specs, anew=False)
    Path(output, "references").write_text("\n".join(references))
    return {"planned": todo.planned, "batches": len(references)}


def graph(command: str, archive: str, output: str) -> dict:
    """Build the graph, and turn it into what runners are given."""
    import apache_beam as beam

    from pipeline.graph import build

    made, _ = _asked(command, archive, output)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    build(pipeline, made, Path(output, "references").read_text().splitlines())
    return {"graph": pipeline.to_runner_api().ByteSize()}


def one_more(command: str, archive: str, output: str) -> dict:
    """Find out what is left to do when there is one image more."""
    if Path(archive).is_dir():
        make_idx(Path(archive, "new"), 1)
    else:
        name = Path(archive).read_text().splitlines()[1].partition(",")[0]
        os.link(Path(archive).parent / name, Path(archive).parent / "new.jpg")
        with Path(archive).open("a") as file:
            file.write("new.jpg,one more\n")
    _, todo, _ = _prepared(command, archive, output)
    assert (len(todo.left.sources), len(todo.specs)) == (1, 1), "one image is left"
    return {}


def again(command: str, archive: str, output: str) -> dict:
    """Find out that there is nothing to do."""
    from pipeline import run
    from pipeline.ledger import Ledger

    made, todo, _ = _prepared(command, archive, output)
    ledger = Ledger(made.output)
    ledger.close()
    summary = run._summary(ledger)
    assert summary is not None and run._is_done(ledger, made, todo, summary), "all is done"
    return {}


def _asked(command: str, archive: str, output: str):
    from pipeline import beam_options, cli, job

    parser, commands = cli._parser()
    own = beam_options.add_to(commands[command])
    said = [command, archive, output, *COMMANDS[command], "--workers", str(WORKERS)]
    args = parser.parse_args(said)
    return job.make_job(args), beam_options.make(args, own)


def _prepared(command: str, archive: str, output: str):
    from pipeline import generations, run

    made, options = _asked(command, archive, output)
    chosen = generations.choose(made)
    return chosen.job, run._prepare(chosen, run._find(made)), options


def commit(command: str, output: str, share: int) -> dict:
    """Commit a worker's share of the batches."""
    from pipeline.committing import CommitDoFn
    from pipeline.ledger import Ledger
    from transforms.record import BatchSpec

    ledger = Ledger(output)
    job = ledger.job()
    run = ledger.run()
    do = CommitDoFn(output, job["digest"], run)
    finding = Finding(share, evaluates=command == "evaluate")
    references = Path(output, "references").read_text().splitlines()
    for reference in references[share::WORKERS]:
        # As FetchSpecs does.
        assert not ledger.is_stopping and ledger.run() == run
        line = ledger.spec(reference)
        assert not ledger.is_committed(line)
        for batch in BatchSpec.from_json(line).batches():
            done = batch.of(map(finding.of, batch.records))
            assert list(do.process(done)) == [len(batch)]
    return {}


class Finding:
    """What reading, the model and the scores would have found of a record, made up."""

    def __init__(self, seed: int, *, evaluates: bool) -> None:
        from transforms.codec import Form

        self._random = random.Random(seed)
        self._form = Form(format="PNG", mode="L")
        self._count = seed
        self._evaluates = evaluates
        self._states = ("original", *(("degraded",) if evaluates else ()), "restored")

    def of(self, record):
        """Make up what is found of one record; one of a thousand cannot be read."""
        from transforms.record import Derivative, Record

        self._count += 1
        drawn = self._random.random
        if self._count % FAILED_EVERY == 0:
            return record.failed("read", ValueError("the file is cut short"))
        digests = f"{self._random.getrandbits(512):0128x}"
        derivative = Derivative(
            f"{record.mirror}.png",
            400 + int(800 * drawn()),
            digests[:64],
            SIDE,
            SIDE,
            "PNG",
            "deflate",
        )
        scores: dict[str, float | None] = {}
        compared = (("mse", 0.01), ("psnr_rgb", 40.0), ("ssim", 1.0))
        for metric, scale in compared if self._evaluates else ():
            before, after = scale * drawn(), scale * drawn()
            states = {"degraded": before, "restored": after, "gain": after - before}
            scores |= {f"{metric}_{state}": value for state, value in states.items()}
        for metric, scale in (("colourfulness", 60.0), ("saturation", 1.0), ("contrast", 0.3)):
            for state in self._states:
                scores[f"{metric}_{state}"] = scale * drawn()
        return Record(
            source=record.source,
            sha256=digests[64:],
            form=self._form,
            size=(SIDE, SIDE),
            seams=((), ()),
            recipe=RECIPE if self._evaluates else None,
            model="denoise",
            metrics=scores,
            guards={"identity": drawn(), "seams": drawn()},
            derivative=derivative,
        )


def summarise(command: str, archive: str, output: str) -> dict:
    """Make the three tables."""
    from pipeline import summary

    told = summary.summarise(output)
    return {name: told[name] for name in ("planned", "restored", "failed")}


# -- measuring -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Took:
    """What a phase took: seconds of the clock and of processors, bytes, and what it said."""

    seconds: float
    cpu: float
    peak: int
    said: dict


def run_phase(phase: str, command: str, archive: Path, output: Path) -> Took:
    """Run one phase, and wait for its processes."""
    root = Path(__file__).resolve().parents[1]
    paths = [str(root), str(root / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    started = time.perf_counter()
    processes = []
    for share in range(WORKERS if phase == "commit" else 1):
        said = ["--phase", phase, str(share), command, str(archive), str(output)]
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, *said], stdout=subprocess.PIPE, env=environment
            )
        )
    cpu, peak, found = 0.0, 0, {}
    for process in processes:
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{phase} ended with {process.returncode}")
        cpu += used.ru_utime + used.ru_stime
        peak += used.ru_maxrss * 1024
        found |= json.loads(told.splitlines()[-1])
    return Took(time.perf_counter() - started, cpu, peak, found)


def in_process(phase: str, share: int, command: str, archive: str, output: str) -> None:
    """Be the process of a phase."""
    called = {
        "plan": plan,
        "graph": graph,
        "summarise": summarise,
        "again": again,
        "one more": one_more,
    }
    if phase == "commit":
        said = commit(command, output, share)
    else:
        said = called[phase](command, archive, output)
    print(json.dumps(said))


def bytes_in(folder: Path) -> tuple[int, int]:
    """Count the files of a folder, and their bytes."""
    sizes = [entry.stat().st_size for entry in os.scandir(folder)]
    return len(sizes), sum(sizes)


def measure(count: int, kind: str, command: str, work: Path, phases: Sequence[str]) -> bool:
    """Take so many records through the phases; tell whether the goal is reached."""
    output = work / "output"
    started = time.perf_counter()
    archive = KINDS[kind](work / "archive", count)
    print(
        f"{count:,} records ({kind}, {command}), made in {time.perf_counter() - started:.1f} s\n"
        f"{'':12}{'seconds':>10}{'CPU s':>10}{'CPU us a record':>18}{'peak':>10}",
        flush=True,
    )
    took: dict[str, Took] = {}
    for phase in phases:
        took[phase] = one = run_phase(phase, command, archive, output)
        each = 1e6 * one.cpu / count
        print(
            f"{phase:12}{one.seconds:10.1f}{one.cpu:10.1f}{each:18.1f}{one.peak / 1e6:7.0f} MB",
            flush=True,
        )
    plan_file = (output / "ledger/plan.jsonl").stat().st_size
    print(
        f"plan.jsonl: {took['plan'].said['batches']:,} batches, {plan_file / count:.0f} B a record"
    )
    if "graph" in phases:
        size = took["graph"].said["graph"]
        print(f"graph: {size / 1e6:.2f} MB, {size / count:.2f} B a record")
    if "commit" in phases:
        started = time.perf_counter()
        files, size = bytes_in(output / "ledger/batches")
        listing = time.perf_counter() - started
        print(
            f"commit records: {files:,} files, {size / count:.0f} B a record, "
            f"{size / 1e9:.2f} GB, listed with their sizes in {listing:.2f} s"
        )
    if "summarise" in phases:
        table = (output / "metrics.parquet").stat().st_size
        print(f"metrics.parquet: {table / count:.0f} B a record, {table / 1e9:.2f} GB")
    return reached(count, took)


def reached(count: int, took: dict[str, Took]) -> bool:
    """Tell whether the goal is reached, and say where not."""
    both = [took[phase] for phase in ("plan", "summarise") if phase in took]
    seconds, cpu = sum(one.seconds for one in both), sum(one.cpu for one in both)
    peak = max(one.peak for one in both)
    most = MOST_SECONDS * count / GOAL + (START if count < GOAL else 0)
    by = "by the clock" if count >= GOAL else "of CPU"
    print(
        f"planned and summarised in {seconds:.1f} s, {cpu:.1f} s of CPU (goal: {most:.1f} {by}); "
        f"peak {peak / 1e6:.0f} MB (goal: {MOST_MEMORY / 1e6:.0f})",
        flush=True,
    )
    lost = [one.said for one in both if one.said["planned"] != count]
    if "summarise" in took:
        told = took["summarise"].said
        if told["restored"] + told["failed"] != count:
            lost.append(told)
    for one in lost:
        print(f"  not all are accounted for: {one}")
    missed = (seconds if count >= GOAL else cpu) > most or peak > MOST_MEMORY
    if missed:
        print("  goal missed")
    return not (missed or lost)


@contextlib.contextmanager
def folder_for(work: str | None, keep: bool) -> Iterator[Path]:
    """Make a folder, and delete it unless it is to be kept."""
    folder = tempfile.mkdtemp(prefix="heliograph-scale-", dir=work)
    try:
        yield Path(folder)
    finally:
        if keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


def main() -> int:
    """Read the command line; 1 where the goal is missed."""
    if sys.argv[1:2] == ["--phase"]:
        phase, share, *where = sys.argv[2:]
        in_process(phase, int(share), *where)
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, nargs="+", default=RECORDS, metavar="N")
    parser.add_argument("--kind", choices=KINDS, default="idx", help="of archive")
    parser.add_argument("--command", choices=COMMANDS, default="restore", help="rows of which")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES, metavar="PHASE")
    parser.add_argument(
        "--work", metavar="FOLDER", help="where there is room: 3 kB a record (default: $TMPDIR)"
    )
    parser.add_argument("--keep", action="store_true", help="archive and output")
    args = parser.parse_args()
    done = True
    for count in args.records:
        with folder_for(args.work, args.keep) as work:
            done &= measure(count, args.kind, args.command, work, args.phases)
    return 0 if done else 1


if __name__ == "__main__":
    raise SystemExit(main())
