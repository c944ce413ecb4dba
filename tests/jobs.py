"""Whole jobs in the test's own process: what no worker process is needed to show."""

from pipeline import beam_options, cli, job

IN_PROCESS = (
    *("--runner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner"),
    *("--workers", "1"),
)


def run(command, *arguments):
    """Run a command as its line says, and give how it ended."""
    parser, commands = cli._parser()
    own = beam_options.add_to(commands[command])
    args = parser.parse_args([command, *map(str, arguments), *IN_PROCESS])
    return job.run(job.make_job(args), beam_options.make(args, own))
