"""The facts of a job for those who audit it: what it was, with what, and held to what.

When, where and as which run is not among them: the same job has the same report. That is in
`summary.json` and in the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.rows import Rows
from pipeline.report.words import number

Facts = list[tuple[str, str]]


def facts(summary: Mapping[str, Any]) -> dict[str, Facts]:
    """List what there is to know of a job, by headings; what does not apply is left out."""
    job, environment = summary.get("job", {}), summary.get("environment", {})
    contract = job.get("contract") or {}
    masters = summary.get("masters")
    models = {one["name"]: one["model_sha256"] for one in job.get("models", ())}
    groups = {
        "Job": {
            "Command": job.get("command"),
            "Archives": ", ".join(job.get("archives", ())),
            "Recipe": job.get("recipe"),
            "Seed": job.get("seed"),
            "Metrics": ", ".join(job.get("metrics") or ()),
            "Format of derivatives": job.get("image_format") or "each master's own",
            "Quality of lossy derivatives": job.get("quality"),
            "Written into": job.get("output_format"),
            "Masks of missing pixels": job.get("masks"),
            "Operator": environment.get("operator"),
            "Digest of the job": summary.get("digest"),
        },
        "Model": {
            "Name": contract.get("name"),
            "Given as": job.get("model"),
            "SHA-256": job.get("model_sha256"),
            "Arithmetic": job.get("precision"),
            "Takes": contract.get("input_space"),
            "Gives": contract.get("output_space"),
            "Largest window": f"{job['tile']} pixels" if job.get("tile") else None,
            "LPIPS by the model of SHA-256": job.get("lpips_sha256"),
        },
        "Models, by SHA-256": models,
        "Archive": {
            "Planned": f"{summary['planned']:,}",
            "Further pages of files": summary.get("further_pages") or None,
            "Gone since an earlier run": summary.get("gone") or None,
            "Left out, being no images": _counted(summary.get("left_out", {})),
            "Masters hashed again": masters and f"{masters['unchanged']:,} are what they were",
            "Masters that changed": masters and _keys(masters["changed"]),
        },
        "Software": {
            **summary.get("versions", {}),
            "git revision": environment.get("revision"),
            "container": environment.get("container"),
        },
    }
    return {
        heading: [(name, str(value)) for name, value in group.items() if value not in (None, "")]
        for heading, group in groups.items()
        if (heading != "Model" or contract) and group
    }


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))


def _keys(changed: list[dict[str, str]]) -> str:
    keys = [one["key"] for one in changed]
    return ", ".join(keys[:20]) + (f" and {len(keys) - 20:,} more" if len(keys) > 20 else "")


@dataclass(frozen=True, slots=True)
class Guard:
    """What one guard measured over all images.

    Attributes:
        name: of the guard.
        threshold: as it was set.
        count: how many images it measured.
        median, high, largest: of its values; high is what 95 % do not exceed.
    """

    name: str
    threshold: str
    count: int
    median: str
    high: str
    largest: str


def guards(summary: Mapping[str, Any], rows: Rows) -> list[Guard]:
    """Tell what the guards of a job measured."""
    thresholds = summary.get("job", {}).get("guards") or {}
    found = []
    for column in rows.names:
        if not column.startswith("guard_"):
            continue
        name, values = column.removeprefix("guard_"), rows.numbers(column)
        known = values[~np.isnan(values)]
        if not known.size:
            continue
        threshold = thresholds.get(name)
        median, high = np.quantile(known, (0.5, 0.95), method="lower")
        digits = 4
        found.append(
            Guard(
                name,
                "off" if threshold is None else f"{threshold:g}",
                known.size,
                number(float(median), digits),
                number(float(high), digits),
                number(float(known.max()), digits),
            )
        )
    return found
