"""Whole jobs in the test's own process: what no worker process is needed to show."""

from pipeline import beam_options, cli, job
from pipeline import run as runs

IN_PROCESS = (
    *("--runner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner"),
    *("--workers", "1"),
)


def run(command, *arguments, code=None):
    """Run a command as its line says, and give how it ended; hold it to an exit code, if one is
    given.
    """
    parser, commands = cli._parser()
    own = beam_options.add_to(commands[command])
    words = [command, *map(str, arguments)]
    args = parser.parse_args([*words, *IN_PROCESS])
    args.said = beam_options.without_beams(words, commands[command], own)
    ended = runs.run(job.make_job(args), beam_options.make(args, own))
    assert code in (None, ended.code), ended
    return ended
