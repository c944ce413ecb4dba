"""Beam's own pipeline options, understood beside ours."""

import argparse

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.options import OPTIONS

# What Beam has an option of its own for, of the same meaning and another form: ours counts.
_BEAMS = {"dry_run"}


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


def add_to(parser: argparse.ArgumentParser) -> set[str]:
    """Let a parser understand all of Beam's options, without listing them in its help.

    With them known, an option that nobody knows is an error, and a value that follows a Beam
    option is never taken for an archive.

    Returns:
        The names of the options that the parser had before: ours.
    """
    own = {action.dest for action in parser._actions}
    for options in PipelineOptions.__subclasses__():
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
    """Make Beam's options from what was parsed.

    Args:
        args: of a parser that `add_to` has extended.
        own: the names of our options.
    """
    known = {option.name for option in OPTIONS}
    values = {name: value for name, value in vars(args).items() if name in known or name not in own}
    return PipelineOptions(
        [], **{name: value for name, value in values.items() if name != "command"}
    )
