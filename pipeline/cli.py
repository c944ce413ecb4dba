"""The command line. Nothing heavy is imported before it is known what to do."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph import __version__
from pipeline import terminal
from pipeline.contract_options import with_pairs_joined
from pipeline.options import RECIPE_COMMANDS, REPAIR, REPORT, VERIFY, add_options
from pipeline.training_options import TRAIN, TRAINING_OPTIONS

if TYPE_CHECKING:
    from pipeline.job import ExitCode
    from pipeline.metrics_file import MetricsFile

log = logging.getLogger("heliograph")

_EPILOG = """\
All options of Apache Beam are understood too: --runner FlinkRunner --flink_master HOST:PORT ...

exit codes:
  0  all well
  1  crashed
  2  wrong usage or configuration; nothing was done
  3  finished, but some images failed or were quarantined: see OUTPUT/failures.jsonl; or were taken
     out of the ledger (repair), and the same command does them again
  4  a master or a derivative is not what it was (--verify_masters, verify, repair --dry_run), or
     cannot be mended (repair); or a quality gate is not passed (--max_failed, --min_psnr,
     --baseline, --gate ...): see OUTPUT/gates.json
 75  another job is working on OUTPUT, or was left to a cluster (--no_wait) that is: try again later
130  interrupted; the same command goes on from there
"""


# Options that tell something and end, for which nothing else need be known or imported.
_TELLING = {"-h", "--help", "--version", "--list"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    argv = with_pairs_joined(sys.argv[1:] if argv is None else argv)
    parser, commands = _parser()
    if not _TELLING.isdisjoint(argument.partition("=")[0] for argument in argv) or not argv:
        parser.parse_args(argv or ["--help"])
    _log_to_stderr("-v" in argv or "--verbose" in argv)
    if argv[0] == "models":
        return _models(parser.parse_args(argv))
    if argv[0] in _ON_OUTPUTS:
        return _on_outputs(parser, commands[argv[0]], argv)
    if argv[0] == TRAIN:
        return _train(parser, commands[TRAIN], argv)
    return _job(parser, commands, argv)


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="heliograph",
        description="Restore photographic archives with TensorFlow SavedModels, and measure it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"heliograph {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands = {}
    for name, summary in {
        "restore": "restore an archive; masters are never written to",
        "evaluate": "degrade clean images, restore them, and score the result",
        "degrade": "only damage the images of an archive (or make them gray)",
        "convert": "pass images on from files or shards to files or shards, without touching them",
    }.items():
        commands[name] = _subparser(subparsers, name, summary)
        commands[name].add_argument(
            "archive",
            nargs="+",
            metavar="ARCHIVE",
            help="folder (searched recursively), glob, file, shard, list of images, or output of "
            "an earlier job; several may be given",
        )
        commands[name].add_argument("output", metavar="OUTPUT", help="folder for the results")
    commands["demo"] = _subparser(
        subparsers, "demo", "evaluate a model on photographs that come with scikit-image"
    )
    commands["demo"].add_argument(
        "output",
        nargs="?",
        default="heliograph-demo",
        metavar="OUTPUT",
        help="folder for the results (default: %(default)s)",
    )
    commands[VERIFY] = _subparser(
        subparsers, VERIFY, "hold an output to its ledger: every file there, and what it was"
    )
    commands[VERIFY].add_argument("output", metavar="OUTPUT", help="of a job that has ended")
    commands[REPAIR] = _subparser(
        subparsers, REPAIR, "bring an output and its ledger in line, so that a job can go on"
    )
    commands[REPAIR].add_argument(
        "output", metavar="OUTPUT", help="of a job, or a generation of it"
    )
    commands[REPORT] = _subparser(
        subparsers, REPORT, "make the page that shows what a job has done, or compares several"
    )
    commands[REPORT].add_argument(
        "outputs",
        nargs="+",
        metavar="OUTPUT",
        help="of a job; several are compared with the first, image by image",
    )
    for name, command in commands.items():
        add_options(command, name)
    for name in RECIPE_COMMANDS:
        commands[name].add_argument(
            "--list",
            action=_ListDegradations,
            nargs="?",
            metavar="NAME",
            help="list the degradations that a recipe is made of, or describe one, and exit",
        )
    commands[TRAIN] = _train_parser(subparsers)
    models = _subparser(subparsers, "models", "list the shipped models, or show a contract")
    models.add_argument(
        "model",
        nargs="?",
        metavar="NAME|PATH",
        help="a shipped model, or a SavedModel or .keras file",
    )
    models.add_argument(
        "--json", action="store_true", help="print the contract alone, ready for --contract"
    )
    add_options(models, "models")
    return parser, commands


def _subparser(subparsers, name: str, summary: str) -> argparse.ArgumentParser:
    command = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_EPILOG if name not in ("models", TRAIN) else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        conflict_handler="resolve",
    )
    command.add_argument("-v", "--verbose", action="store_true", help="log in detail")
    return command


def _train_parser(subparsers) -> argparse.ArgumentParser:
    train = _subparser(subparsers, TRAIN, "train a network on an archive, for the other commands")
    train.add_argument(
        "archive", nargs="+", metavar="ARCHIVE", help="clean images, as of `heliograph restore`"
    )
    train.add_argument("savedmodel", metavar="SAVEDMODEL", help="folder for what comes of it")
    add_options(train, TRAIN, TRAINING_OPTIONS)
    return train


class _ListDegradations(argparse.Action):
    """`--list [NAME]`: print, and end."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from pipeline.catalogue import describe_degradation, list_degradations
        from transforms.recipe import RecipeError

        try:
            if values is None:
                list_degradations()
            else:
                describe_degradation(values)
        except RecipeError as error:
            parser.error(str(error))
        parser.exit()


def _log_to_stderr(verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(terminal.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    # What Beam and its dependencies say on starting up is for their developers.
    logging.basicConfig(level=logging.INFO if verbose else logging.CRITICAL)
    if not verbose:
        warnings.simplefilter("ignore")


def _job(
    parser: argparse.ArgumentParser,
    commands: dict[str, argparse.ArgumentParser],
    argv: list[str],
) -> int:
    if argv[0] not in commands:
        parser.parse_args(argv)  # says which commands there are, and exits
    from pipeline import beam_options

    own = beam_options.add_to(commands[argv[0]])
    args = parser.parse_args(argv)
    args.said = beam_options.without_beams(argv, commands[args.command], own)

    from pipeline import job
    from pipeline.metrics_file import MetricsFile, MetricsFileError

    try:
        told = MetricsFile(getattr(args, "metrics_file", None), args.output)
    except MetricsFileError as error:
        log.error("%s", error)
        return job.ExitCode.USAGE
    with told:
        told.code = _run(parser, args, own, told)
    return told.code


def _run(
    parser: argparse.ArgumentParser, args: argparse.Namespace, own: set[str], told: "MetricsFile"
) -> "ExitCode":
    """Run a job, say how it ended, and tell that to what is written for Prometheus."""
    from apache_beam.io.filesystems import FileSystems

    from pipeline import demo, gates, job, lock, run
    from pipeline.report import console
    from pipeline.scoreboard import board

    try:
        if args.command == "demo":
            demo.prepare(args)
        options = _options(parser, args, own)
        FileSystems.set_options(options)
        told.job = prepared = job.make_job(args)
        told.result = result = run.run(prepared, options)
    except job.JobError as error:
        log.error("%s", error)
        return job.ExitCode.USAGE
    except job.JobCrashedError as error:
        log.error("%s", error)
        return job.ExitCode.CRASHED
    except (lock.LockedError, lock.LostError) as error:
        log.error("%s", error)
        return job.ExitCode.LOCKED
    except KeyboardInterrupt:
        log.error("interrupted; what is committed in %s stays", args.output)
        return job.ExitCode.INTERRUPTED
    if prepared.dry_run:
        return result.code
    if result.submitted is not None:
        print(result.submitted)
        return result.code
    if prepared.matrix is None:
        console.tell(result.summary, result.output)
    else:  # means over all cells say little
        board.tell(result.output)
        console.tell({**result.summary, "metrics": {}}, result.output)
    gates.tell(result.verdict)
    if args.command == "demo":
        demo.finish(prepared)
    return result.code


def _options(parser: argparse.ArgumentParser, args: argparse.Namespace, own: set[str]):
    from pipeline import beam_options

    try:
        return beam_options.make(args, own)
    except ImportError as error:
        parser.error(f"--beam_plugin: {error}")


def _on_outputs(
    parser: argparse.ArgumentParser, command: argparse.ArgumentParser, argv: list[str]
) -> int:
    """Run a command on what jobs have written, for which no runner is needed."""
    from pipeline import beam_options

    own = beam_options.add_to(command, beam_options.STORAGE)
    args = parser.parse_args(argv)

    from apache_beam.io.filesystems import FileSystems

    from pipeline.job import ExitCode
    from pipeline.ledger import LedgerError
    from pipeline.lock import LockedError, LostError

    FileSystems.set_options(_options(parser, args, own))
    try:
        return _ON_OUTPUTS[args.command](args)
    except (LockedError, LostError) as error:
        log.error("%s", error)
        return ExitCode.LOCKED
    except (LedgerError, OSError) as error:
        log.error("%s", error)
        return ExitCode.USAGE


def _verify(args: argparse.Namespace) -> int:
    from pipeline import verify
    from pipeline.job import ExitCode

    found = verify.verify_all(
        args.output, deep=args.deep, with_masters=args.masters, threads=args.parallel
    )
    verify.dump(found, args.json)
    verify.tell(found)
    return ExitCode.OK if found["sound"] else ExitCode.FIXITY


def _repair(args: argparse.Namespace) -> int:
    from pipeline import repair, verify

    found = repair.repair(
        args.output, dry=args.dry_run, delete=args.delete_strays, threads=args.parallel
    )
    if args.json:
        verify.dump(found, args.json)
    for line in repair.tell(found, dry=args.dry_run):
        # Names of files on Linux are bytes, which need not be text.
        sys.stdout.buffer.write(os.fsencode(f"{line}\n"))
    return repair.code(found, dry=args.dry_run)


def _report(args: argparse.Namespace) -> int:
    from pipeline.job import ExitCode
    from pipeline.report.command import report

    log.info("look at it: %s", report(args.outputs, args.to, args.pictures))
    return ExitCode.OK


_ON_OUTPUTS = {VERIFY: _verify, REPAIR: _repair, REPORT: _report}


@contextmanager
def _stderr_of_libraries() -> Iterator[None]:
    """Keep to itself what TensorFlow says on starting up, whatever level of logging it is set."""
    said = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(said, 2)
        os.close(said)


def _train(
    parser: argparse.ArgumentParser, command: argparse.ArgumentParser, argv: list[str]
) -> int:
    from pipeline import beam_options

    own = beam_options.add_to(command, beam_options.STORAGE)
    args = parser.parse_args(argv)

    from apache_beam.io.filesystems import FileSystems

    FileSystems.set_options(_options(parser, args, own))
    args.said = beam_options.without_beams(argv, command, own)
    with _stderr_of_libraries():
        from pipeline.training import StoppedError, TrainingError, train
        from pipeline.training_setup import start_tensorflow

        start_tensorflow(args.threads)  # now, before Keras does, and says what it says

    try:
        train(args)
    except TrainingError as error:
        log.error("%s", error)
        return 2
    except StoppedError as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        log.error("interrupted; --resume goes on from the last checkpoint")
        return 130
    return 0


def _models(args: argparse.Namespace) -> int:
    from models.contract import ContractError
    from pipeline.serving import list_models, show_model

    if args.model is None:
        list_models()
        return 0
    try:
        show_model(args)
    except (ContractError, OSError) as error:
        log.error("%s", error)
        return 2
    return 0
