"""What the derivatives of a job are to say of how they were made."""

import argparse

from heliograph import __version__
from models.contract import Contract
from transforms.metadata import Tool
from transforms.metadata.provenance import ALTERED, GENERATED

AGENT = f"Heliograph {__version__}"


def tool_of(
    args: argparse.Namespace, contract: Contract | None, parameters: dict[str, str]
) -> Tool | None:
    """Say what made the derivatives of a command; None where images are passed on as they are.

    The source type is `compositeWithTrainedAlgorithmicMedia` where a model invents what the master
    does not show, colours or missing pixels, and `algorithmicallyEnhanced` ("algorithmically
    altered media") where it does not; damage is such an alteration as well.

    Args:
        args: the command.
        contract: of its model, if it has one.
        parameters: what decides the derivatives, by name.
    """
    if args.command == "convert":
        return None
    source_type, done = ALTERED, ""
    if contract is not None:
        done = "restored by a trained model"
        if contract.predicts_chroma or contract.colorizes:
            source_type, done = GENERATED, "colours guessed by a trained model"
        elif contract.mask_input is not None:
            source_type, done = GENERATED, "missing pixels filled in by a trained model"
    if args.command != "restore":
        done = f"test image: damaged on purpose{', then ' * bool(done)}{done}"
    stated = getattr(args, "digital_source_type", None)
    return Tool(AGENT, stated or source_type, done, tuple(parameters.items()))
