"""Beam's own pipeline options, understood beside ours."""

import argparse
import importlib
from collections.abc import Iterable, Sequence

from apache_beam.options.pipeline_options import (
    AzureOptions,
    GoogleCloudOptions,
    HadoopFileSystemOptions,
    PipelineOptions,
    S3Options,
    SetupOptions,
)

from pipeline.options import OPTIONS

# What says how to reach storage: all that a command needs which runs no pipeline.
STORAGE = (AzureOptions, GoogleCloudOptions, HadoopFileSystemOptions, S3Options, SetupOptions)
# What Beam has an option of its own for, of the same meaning and another form: ours counts.
_BEAMS = {"dry_run"}
# The option that names a private key, and what stands for it where a command is kept.
_SIGN, _PRIVATE = "--sign", "KEY"


class HeliographOptions(PipelineOptions):
    """Our options as Beam sees them, for its monitoring pages and for pipelines of your own."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        for option in OPTIONS:
            if option.name in _BEAMS:
                continue
            settings = dict(option.settings)
            settings.pop("required", None)
            parser.add_argument(*option.flags, dest=option.name, **settings)


class FlinkTuning(PipelineOptions):
    """Options of Beam's Flink runner that its job server knows and Beam's Python side does not."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--number_of_execution_retries", type=int, default=-1)
        parser.add_argument("--execution_retry_delay", type=int, default=-1)


def add_to(
    parser: argparse.ArgumentParser, kinds: Iterable[type[PipelineOptions]] | None = None
) -> set[str]:
    """Let a parser understand Beam's options, without listing them in its help.

    With them known, an option that nobody knows is an error, and a value that follows a Beam
    option is never taken for an archive.

    Args:
        parser: to extend.
        kinds: of options; None for all that Beam has.

    Returns:
        The names of the options that the parser had before: ours.
    """
    own = {action.dest for action in parser._actions}
    for options in kinds or PipelineOptions.__subclasses__():
        if options is not HeliographOptions:
            before = len(parser._actions)
            options._add_argparse_args(parser)  # type: ignore[arg-type]
            for action in parser._actions[before:]:
                action.help = argparse.SUPPRESS
    for option in OPTIONS:
        if option.name in _BEAMS & own:
            parser.add_argument(*option.flags, dest=option.name, **option.settings)
    return own


def make(args: argparse.Namespace, own: set[str]) -> PipelineOptions:
    """Make Beam's options from what was parsed, and load the file systems that --beam_plugin names,
    which Beam does in workers alone.

    Args:
        args: of a parser that `add_to` has extended.
        own: the names of our options.

    Raises:
        ImportError: there is no such plugin.
    """
    known = {option.name for option in OPTIONS}
    values = {name: value for name, value in vars(args).items() if name in known or name not in own}
    options = PipelineOptions(
        [], **{name: value for name, value in values.items() if name != "command"}
    )
    for plugin in options.view_as(SetupOptions).beam_plugins or ():
        try:
            importlib.import_module(plugin)
        except ModuleNotFoundError:
            importlib.import_module(plugin.rpartition(".")[0] or plugin)  # it may name a class
    return options


def without_beams(argv: Sequence[str], parser: argparse.ArgumentParser, own: set[str]) -> list[str]:
    """Give the words of a command but for Beam's options, which may hold credentials, and for the
    place of a private key.

    Args:
        argv: what was said, and is known to be sound.
        parser: that `add_to` has extended.
        own: the names of our options.
    """
    beams = {
        flag: action
        for action in parser._actions
        if action.dest not in own
        for flag in action.option_strings
    }
    said, words = [], iter(argv)
    for word in words:
        flag, joined, _ = word.partition("=")
        if flag == _SIGN:
            certificate, _ = next(words), next(words)
            said += [flag, certificate, _PRIVATE]
        elif flag not in beams:
            said.append(word)
        elif not joined and beams[flag].nargs != 0:
            next(words, None)
    return said
