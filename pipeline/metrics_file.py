"""The state of an output for Prometheus, as a file for node_exporter's textfile collector.

It is written however a run ends: done, failed, locked out or interrupted. What the run has not
found out stays as the run before it wrote it.
"""

import contextlib
import fcntl
import importlib.util
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

import heliograph
from pipeline.job import ExitCode
from pipeline.ledger import STATUSES, Ledger
from pipeline.options import Job
from pipeline.run import Result
from transforms import storage
from transforms.names import as_text

log = logging.getLogger("heliograph")

PREFIX = "heliograph_"

# All that is told, in the order of the file; the label `output` comes to each.
FAMILIES = {
    "last_run_timestamp_seconds": "When the last run ended, whatever came of it.",
    "last_run_duration_seconds": "How long the last run took.",
    "last_run_exit_code": "Exit code of the last run: 0, 1, 2, 3, 4, 75 or 130.",
    "last_completion_timestamp_seconds": "When a run last came to its end: exit codes 0, 3 and 4.",
    "last_success_timestamp_seconds": "When a run last ended with exit code 0; 0 for never.",
    "job_info": "What the last run was of: 1, and labels.",
    "images_planned": "Images that are to be in the output.",
    "images": "Images in the output, by status.",
    "images_with_warnings": "Images with warnings.",
    "failures": "Images that failed or are quarantined, by the stage that says so.",
    "masters_gone": "Masters that are in the output and no longer in the archive.",
    "masters_changed": "Masters that are not what they were when they were read.",
    "files_left_out": "Files of the archive that are no images.",
    "source_bytes": "Bytes of the masters' images.",
    "source_pixels": "Pixels of the masters' images.",
    "derivative_bytes": "Bytes of the derivatives.",
    "images_per_second": "Pace of the last run that had anything to do.",
    "pixels_per_second": "Pace of the last run that had anything to do, roughly.",
    "score_images": "Images that have a score.",
    "score_mean": "Mean of a score.",
    "score_stddev": "Standard deviation of a score.",
    "score_quantile": "Quantiles of a score.",
    "gates_passed": "Whether all quality gates were passed: 1 or 0.",
    "gate_passed": "Whether a quality gate was passed: 1 or 0.",
    "gate_value": "What a quality gate has found.",
    "gate_limit": "What a quality gate allows.",
    "drift_deviations": "Change since the baseline, in standard deviations of it.",
    "drift_passed": "Whether a figure is no worse than in the baseline: 1 or 0.",
}

_COMPLETE = (ExitCode.OK, ExitCode.INCOMPLETE, ExitCode.FIXITY)

# By name, and labels by their names.
Labels = tuple[tuple[str, str], ...]
Figures = dict[tuple[str, Labels], float]


class MetricsFileError(ValueError):
    """A file for Prometheus that cannot be written, and what to do."""


class MetricsFile:
    """Writes the file when the block ends, with what the block has told it.

    Args:
        path: of the file; None to write none.
        output: of the job, as it was named.

    Attributes:
        job: what was asked for, once it is known.
        result: how it ended, if it did.
        code: its exit code. Of a block that an exception leaves, it is that of a crash, or of an
            interruption.

    Raises:
        MetricsFileError: it cannot be written where it is to be.
    """

    def __init__(self, path: str | None, output: str) -> None:
        self.path = None if path is None else _checked(path)
        self.output = os.path.abspath(output) if storage.is_local(output) else output
        self.job: Job | None = None
        self.result: Result | None = None
        self.code = ExitCode.CRASHED
        self._began = 0.0

    def __enter__(self) -> "MetricsFile":
        self._began = time.time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.path is None or (self.job is not None and self.job.dry_run):
            return
        if self.result is not None and self.result.submitted is not None:
            return  # it has not ended: whoever collects it writes of it
        if isinstance(error, KeyboardInterrupt):
            self.code = ExitCode.INTERRUPTED
        try:
            with _alone_in(self.path.parent):
                former = _read(self.path, as_text(self.output))
                _write(self.path, _text(self._figures(former)))
        except OSError as trouble:
            log.error("%s, for Prometheus, was not written: %s", self.path, trouble)

    def _figures(self, former: Figures) -> Figures:
        now = time.time()
        found = _Found(as_text(self.output))
        found.add("last_run_timestamp_seconds", now)
        found.add("last_run_duration_seconds", now - self._began)
        found.add("last_run_exit_code", self.code)
        for name, codes in (
            ("last_completion_timestamp_seconds", _COMPLETE),
            ("last_success_timestamp_seconds", (ExitCode.OK,)),
        ):
            before = found.of(former, name)
            found.add(name, now if self.code in codes else before or 0)
        if self.job is not None:
            _add_job(found, self.job)
        if self.result is not None:
            _add_results(found, self.result)
            return found.figures
        told = {name for name, _ in found.figures}
        return {key: value for key, value in former.items() if key[0] not in told} | found.figures


def _checked(path: str) -> Path:
    if importlib.util.find_spec("prometheus_client") is None:
        raise MetricsFileError(
            "--metrics_file needs prometheus_client: install it with "
            "pip install 'heliograph[prometheus]'"
        )
    if not storage.is_local(path):
        raise MetricsFileError(f"--metrics_file {path}: name a file of this machine")
    if not path.endswith(".prom"):
        raise MetricsFileError(
            f"--metrics_file {path}: node_exporter reads names that end in .prom, and nothing else "
            "is written over"
        )
    found = Path(path).absolute()
    if not found.parent.is_dir() or not os.access(found.parent, os.W_OK):
        raise MetricsFileError(
            f"--metrics_file {path}: {found.parent} is no folder that can be written to: make it, "
            "or name that of node_exporter's --collector.textfile.directory"
        )
    return found


class _Found:
    """Figures of one output."""

    def __init__(self, output: str) -> None:
        self.figures: Figures = {}
        self._output = output

    def key(self, name: str, **labels: str) -> tuple[str, Labels]:
        return name, tuple(sorted({"output": self._output, **labels}.items()))

    def add(self, name: str, value: float | None, **labels: str) -> None:
        """Add a figure; None is not known, and left out."""
        if value is not None:
            self.figures[self.key(name, **labels)] = float(value)

    def of(self, figures: Figures, name: str) -> float | None:
        return figures.get(self.key(name))


def _add_job(found: _Found, job: Job) -> None:
    facts = job.facts
    model = facts.get("contract", {}).get("name") if job.model else None
    labels = {
        "version": heliograph.__version__,
        "command": job.command,
        "digest": job.digest[:12],
        "model": model or "",
        "model_sha256": (facts.get("model_sha256") or "")[:12],
        "precision": facts.get("precision") or "",
    }
    found.add("job_info", 1, **{name: as_text(value) for name, value in labels.items()})


def _add_results(found: _Found, result: Result) -> None:
    summary = result.summary
    found.add("images_planned", summary["planned"])
    for status in STATUSES:
        found.add("images", summary[status], status=status)
    found.add("images_with_warnings", summary["warnings"])
    for stage, count in summary["failures"].items():
        found.add("failures", count, stage=stage)
    found.add("masters_gone", summary["gone"])
    if "masters" in summary:
        found.add("masters_changed", len(summary["masters"]["changed"]))
    found.add("files_left_out", sum(summary["left_out"].values()))
    for name, total in _totals(result.output).items():
        found.add(name, total)
    for name, pace in Ledger(result.output).paces().items():
        found.add(f"{name}_per_second", pace)
    for name, score in summary["metrics"].items():
        found.add("score_images", score["count"], score=name)
        found.add("score_mean", score["mean"], score=name)
        found.add("score_stddev", score.get("std"), score=name)
        for share, value in score.get("quantiles", {}).items():
            found.add("score_quantile", value, score=name, quantile=share)
    if result.verdict is not None:
        _add_gates(found, result.verdict)


def _totals(output: str) -> dict[str, int]:
    """Add up columns of the table, a group of rows at a time."""
    path = storage.join(output, "metrics.parquet")
    names = ("source_bytes", "source_width", "source_height", "derivative_bytes")
    totals = dict.fromkeys(("source_bytes", "source_pixels", "derivative_bytes"), 0)
    if not storage.exists(path):
        return {}
    with storage.opened(path) as file, pq.ParquetFile(file) as table:
        for rows in table.iter_batches(columns=list(names)):
            pixels = pc.multiply(rows["source_width"], rows["source_height"])
            for name, column in (
                ("source_bytes", rows["source_bytes"]),
                ("source_pixels", pixels),
                ("derivative_bytes", rows["derivative_bytes"]),
            ):
                totals[name] += pc.sum(column).as_py() or 0
    return totals


def _add_gates(found: _Found, verdict: Mapping[str, Any]) -> None:
    found.add("gates_passed", verdict["passed"])
    for one in verdict["gates"]:
        gate = one["gate"]
        found.add("gate_passed", one["passed"], gate=gate)
        found.add("gate_value", one["value"], gate=gate)
        found.add("gate_limit", one["limit"], gate=gate)
    for one in verdict.get("drift", {}).get("compared", ()):
        found.add("drift_passed", one["passed"], figure=one["name"])
        found.add("drift_deviations", one["deviations"], figure=one["name"])


def _read(path: Path, output: str) -> Figures:
    """Read what an earlier run has written of the same output; nothing, of what is no such file."""
    from prometheus_client.parser import text_string_to_metric_families

    figures: Figures = {}
    try:
        for family in text_string_to_metric_families(path.read_text("utf-8")):
            name = family.name.removeprefix(PREFIX)
            for sample in family.samples if name in FAMILIES else ():
                if sample.labels.get("output") == output:
                    figures[name, tuple(sorted(sample.labels.items()))] = sample.value
    except FileNotFoundError:
        return {}
    except ValueError as error:
        log.warning("%s is written anew, and was no file of ours: %s", path, error)
        return {}
    return figures


def _text(figures: Figures) -> bytes:
    """Give figures in Prometheus' text format, labels escaped."""
    from prometheus_client import generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

    class Families(Collector):
        def collect(self) -> Iterator[GaugeMetricFamily]:
            for name, text in FAMILIES.items():
                samples = [
                    (labels, value) for (told, labels), value in figures.items() if told == name
                ]
                if samples:
                    family = GaugeMetricFamily(PREFIX + name, text)
                    for labels, value in samples:
                        family.add_sample(PREFIX + name, dict(labels), value)
                    yield family

    return generate_latest(Families())


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let jobs that end at the same time write one after the other, and lose nothing of it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # file systems without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, data: bytes) -> None:
    """Write a file so that readers see the former one or this one, and anybody may read it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(handle, 0o644)
            os.fsync(handle)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
