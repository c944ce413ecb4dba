"""What a Flex Template's launcher runs: one command of Heliograph's, which it does not wait for.

The parameters of the template arrive as options of this program, beside Beam's own. It lists the
archive, writes the plan into OUTPUT, puts down the job for Dataflow to start, and ends. Where there
is nothing left to do, it puts down a job that does nothing: without one, Dataflow would take the
launch for a failure.
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
)

from pipeline import beam_options, cli
from pipeline.contract_options import MODEL, with_pairs_joined
from pipeline.job import ExitCode
from pipeline.options import OPTIONS
from transforms import storage

# The image that this is in, and workers are to have as well: set where it is built.
IMAGE = "HELIOGRAPH_SDK_IMAGE"

_SWITCHES = [one.name for one in OPTIONS if one.settings.get("action") == "store_true"]
_LEFT_EMPTY = re.compile(r"--\w+=")


def command_line(argv: Sequence[str]) -> list[str]:
    """Make a command of Heliograph of the parameters of the template and of what Dataflow adds."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("command", "archive", "output"):
        parser.add_argument(f"--{name}", required=True)
    for name in _SWITCHES:
        parser.add_argument(f"--{name}", choices=("true", "false", ""), default="false")
    own, others = parser.parse_known_args(argv)
    options = [word for word in others if not _LEFT_EMPTY.fullmatch(word)]
    options += [f"--{name}" for name in _SWITCHES if getattr(own, name) == "true"]
    said = {word.partition("=")[0] for word in options}
    # What this machine's processor has must not decide: the next launch may be on another one, and
    # would make other results of the same archive.
    if own.command in MODEL and "--precision" not in said:
        options.append("--precision=float32")
    if "--sdk_container_image" not in said and os.environ.get(IMAGE):
        options.append(f"--sdk_container_image={os.environ[IMAGE]}")
    return _known([own.command, *options, "--no_wait", own.archive, own.output])


def _known(line: list[str]) -> list[str]:
    """Leave out options that Dataflow has added and this version of Beam does not know. Dataflow
    itself refuses parameters that the template does not have.
    """
    parser, commands = cli._parser()
    if line[0] in commands:
        beam_options.add_to(commands[line[0]])
    _, unknown = parser.parse_known_args(with_pairs_joined(line))
    for word in unknown:
        print(f"left out, being no option that is known here: {word}", file=sys.stderr)
    return [word for word in line if word not in unknown]


def main(argv: Sequence[str]) -> int:
    """Put down a job, and give an exit code."""
    line = command_line(argv)
    beams = PipelineOptions([word for word in line if word.startswith("--")])
    template = beams.view_as(GoogleCloudOptions).template_location
    code = cli.main(line)
    if _went_well(code) and not _is_there(template):
        # That collected what the last launch had begun. Now for what is new since.
        logging.getLogger("heliograph").handlers.clear()  # which every command adds one to
        code = cli.main(line)
    if code == ExitCode.OK and not _is_there(template):
        print("nothing is left to do")
        _submit_nothing(beams)
    return code


def _went_well(code: int) -> bool:
    return code in (ExitCode.OK, ExitCode.INCOMPLETE, ExitCode.FIXITY)


def _is_there(template: str | None) -> bool:
    return template is None or storage.exists(template)


def _submit_nothing(options: PipelineOptions) -> None:
    """Put down a job of one step that has no input."""
    options.view_as(SetupOptions).save_main_session = False
    cloud = options.view_as(GoogleCloudOptions)
    cloud.temp_location = cloud.temp_location or cloud.staging_location
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | "Nothing is left to do" >> beam.Create([])
    pipeline.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
