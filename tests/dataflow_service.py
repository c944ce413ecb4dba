"""A Dataflow on this machine: the part of its interface that Beam's runner speaks, over HTTP, and
Beam's own local runner to carry out what was staged.
"""

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment
from google.cloud import dataflow
from google.protobuf import json_format

from transforms import storage

State = dataflow.JobState
PROJECT, REGION = "archive-1", "europe-west1"
JOBS = f"/v1b3/projects/{PROJECT}/locations/{REGION}/jobs"


class Service:
    """What it was asked, and what it answers.

    Attributes:
        url: its address.
        jobs: that were submitted, by id.
        carry_out: what is done with a job that is submitted, before the answer.
        words: what jobs say of what went wrong.
        refuses: whether nobody has the right to submit any.
        silent: how many questions it does not answer.
    """

    def __init__(self) -> None:
        self.url = ""
        self.jobs: dict[str, dataflow.Job] = {}
        self.carry_out: Callable[[dataflow.Job], None] = lambda job: None
        self.words: list[str] = []
        self.refuses = False
        self.silent = 0
        self._ids = (f"2026-11-22_00_00_{count:02}-123456789" for count in itertools.count())

    def create(self, text: str) -> dataflow.Job:
        job = dataflow.Job.from_json(text)
        job.id, job.current_state = next(self._ids), State.JOB_STATE_RUNNING
        self.jobs[job.id] = job
        self.carry_out(job)
        return job

    def update(self, identity: str, text: str) -> dataflow.Job:
        job = self.jobs[identity]
        job.current_state = dataflow.Job.from_json(text).requested_state
        return job

    def find(self, path: str):
        if path == JOBS:
            return dataflow.ListJobsResponse(jobs=list(self.jobs.values()))
        identity, _, what = path.removeprefix(f"{JOBS}/").partition("/")
        if identity not in self.jobs:
            return None
        if what == "messages":
            importance = dataflow.JobMessageImportance.JOB_MESSAGE_ERROR
            said = [
                dataflow.JobMessage(
                    id=str(number),
                    time=f"2026-11-22T00:00:{number:02}Z",
                    message_text=word,
                    message_importance=importance,
                )
                for number, word in enumerate(self.words)
            ]
            return dataflow.ListJobMessagesResponse(job_messages=said)
        return dataflow.JobMetrics() if what == "metrics" else self.jobs[identity]


@contextmanager
def dataflow_server() -> Iterator[Service]:
    """Serve an empty project."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if service.silent:
                service.silent -= 1
                self.send(503, b"{}")
            else:
                self.give(service.find(urlsplit(self.path).path))

        def do_POST(self) -> None:
            assert urlsplit(self.path).path == JOBS
            text = self.body()
            if service.refuses:
                said = {"code": 403, "message": "no right to create jobs"}
                self.send(403, json.dumps({"error": said}).encode())
            else:
                self.give(service.create(text))

        def do_PUT(self) -> None:
            identity = urlsplit(self.path).path.removeprefix(f"{JOBS}/")
            self.give(service.update(identity, self.body()))

        def body(self) -> str:
            return self.rfile.read(int(self.headers["Content-Length"])).decode()

        def give(self, found) -> None:
            if found is None:
                self.send(404, b"{}")
            else:
                self.send(200, type(found).to_json(found).encode())

        def send(self, code: int, data: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    service.url = f"http://localhost:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


def options_of(job: dataflow.Job) -> dict:
    """Give the options that workers would be told: in JSON, whole numbers have no point."""
    told = json_format.MessageToDict(dataflow.Job.pb(job).environment.sdk_pipeline_options)
    return {
        name: int(value) if type(value) is float and value.is_integer() else value
        for name, value in told["options"].items()
    }


def graph_of(job: dataflow.Job) -> beam_runner_api_pb2.Pipeline:
    """Give the graph that was staged."""
    return beam_runner_api_pb2.Pipeline.FromString(storage.read(options_of(job)["pipelineUrl"]))


def carry_out(job: dataflow.Job) -> None:
    """Run the graph that was staged to its end, with Beam's local runner in place of containers."""
    graph = graph_of(job)
    here = EmbeddedPythonEnvironment.default().to_runner_api(None)
    for environment in graph.components.environments.values():
        environment.CopyFrom(here)
    told = PipelineOptions.from_dictionary(options_of(job))
    FnApiRunner().run_via_runner_api(graph, told).wait_until_finish()
    job.current_state = State.JOB_STATE_DONE


def steps_of(graph: beam_runner_api_pb2.Pipeline) -> dict[str, beam_runner_api_pb2.PTransform]:
    """Give the primitive transforms of a graph by their names."""
    return {
        one.unique_name: one
        for one in graph.components.transforms.values()
        if not one.subtransforms and re.match("beam:transform", one.spec.urn)
    }
