#!/usr/bin/env python3
"""A worker process on a cluster, as Beam's runners start it there (environment type PROCESS):
what `boot` is in Beam's containers, for code that is installed already.

cluster_worker.py --id=ID --provision_endpoint=HOST:PORT …

It ends when who started it is gone, so that a TaskManager that was killed leaves nothing behind.
"""

import argparse
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    _PARENT = os.getppid()  # which may be gone once all is imported
    # The folder of this file, which Python puts first, holds no modules
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import grpc
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import json_format, text_format

from pipeline.worker import ONE_THREAD, die_with

_PATIENCE = 60.0  # seconds


def main(parent: int) -> None:
    """Run until the runner says that it is enough, or the process that started this is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--id", required=True)
    parser.add_argument("--provision_endpoint", required=True)
    args, _ = parser.parse_known_args()
    die_with(parent)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # which a pool does not read, and may fill up
    os.environ.update({**ONE_THREAD, **os.environ})
    # Prism quotes it, as for a shell.
    os.environ.update(settings(args.id.strip("'"), args.provision_endpoint))
    sdk_worker_main.main(sys.argv[:1])


def settings(worker: str, endpoint: str) -> dict[str, str]:
    """Ask a runner what Beam's worker takes from its environment.

    Args:
        worker: its name, as the runner gave it.
        endpoint: HOST:PORT of the runner's service that tells.

    Raises:
        grpc.RpcError: nobody answers.
    """
    with grpc.insecure_channel(endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        info = service.GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            metadata=(("worker_id", worker),),
            timeout=_PATIENCE,
            wait_for_ready=True,
        ).info
    told = {
        "WORKER_ID": worker,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    for name in ("logging", "control", "status"):
        at = getattr(info, f"{name}_endpoint")
        if at.url:
            told[f"{name.upper()}_API_SERVICE_DESCRIPTOR"] = text_format.MessageToString(at)
    return told


if __name__ == "__main__":
    main(_PARENT)
