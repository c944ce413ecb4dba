"""Two DAGs: `heliograph` runs a job each night; `heliograph_on_flink` leaves it to a cluster.

Put this file and launch.py into a folder that Airflow 3 reads DAGs from. Airflow needs its
providers apache-beam and google, the latter without any use of Google, since the operator asks for
it; Heliograph has a Python of its own, named by the variable HELIOGRAPH_PYTHON in the environment
of Airflow's workers. What to restore, where to, and the file for Prometheus are parameters of the
DAGs: docs/schedules.md.
"""

import os
import re
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.apache.beam.operators.beam import BeamRunPythonPipelineOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

PYTHON = os.environ.get("HELIOGRAPH_PYTHON", "/opt/heliograph/bin/python")
LAUNCHER = str(Path(__file__).with_name("launch.py"))

# Exit codes that no other try makes better, and what they want of a person.
FINAL = {
    2: "wrong usage or configuration: nothing was done; see the log",
    3: "done, but some images failed or are quarantined: see failures.jsonl in the output",
    4: "a master is not what it was, or a quality gate is not passed: see gates.json in the output",
}
BUSY = 75  # another job is working on the output, or one that was left to a cluster


class Heliograph(BeamRunPythonPipelineOperator):
    """Runs Heliograph, and tries again only what may end otherwise.

    To the operator every exit code but 0 is the same failure, and it names the code in the message
    alone. Where another version of it words that otherwise, all of them are tried again.

    Args:
        skip_if_busy: whether a run is skipped while another one is at the output, as cron would
            leave it out; else it is tried again like one that has crashed.
    """

    def __init__(self, *, skip_if_busy: bool = True, **kwargs) -> None:
        super().__init__(py_file=LAUNCHER, py_interpreter=PYTHON, deferrable=False, **kwargs)
        self.skip_if_busy = skip_if_busy

    def execute(self, context):
        """Run it, and take what it says with its exit code into account."""
        try:
            return super().execute(context)
        except AirflowException as error:
            found = re.search(r"return code (-?\d+)", str(error))
            code = int(found[1]) if found else None
            if code in FINAL:
                raise AirflowFailException(f"exit code {code}: {FINAL[code]}") from error
            # Of a later try, what is at it is likely to be the earlier one, about to stop.
            if code == BUSY and self.skip_if_busy and context["ti"].try_number == 1:
                raise AirflowSkipException("another job is working on the output") from error
            raise


JOB = {
    "command": "restore",
    "archive": ["{{ params.archive }}"],
    "output": "{{ params.output }}",
    "metrics_file": "{{ params.metrics_file }}",
}
COMMON = {
    "start_date": datetime(2026, 1, 1),
    "catchup": False,  # a run does all there is to do, whichever night it is for
    "max_active_runs": 1,
    "tags": ["heliograph"],
    "params": {
        "archive": "/srv/archive",
        "output": "/srv/restored",
        "metrics_file": "/var/lib/node_exporter/heliograph.prom",
    },
    "default_args": {"retries": 3, "retry_delay": timedelta(minutes=1)},
}

with DAG("heliograph", schedule="0 2 * * *", doc_md=__doc__, **COMMON):
    # A worker process per core of the machine; "workers" says another number, where other tasks are
    # to have theirs.
    Heliograph(task_id="restore", runner="DirectRunner", pipeline_options=JOB)

with DAG("heliograph_on_flink", schedule="0 2 * * *", doc_md=__doc__, **COMMON):
    ON_FLINK = {
        **JOB,
        "flink_master": "flink-jobmanager:8081",
        "flink_job_server_jar": "/opt/heliograph/beam-runners-flink-job-server.jar",
    }
    submit = Heliograph(
        task_id="submit",
        runner="FlinkRunner",
        pipeline_options={**ON_FLINK, "no_wait": True},
    )
    # Whoever asks while it runs is told 75: for as long as a day, every ten minutes. No slot of
    # Airflow's is held meanwhile.
    collect = Heliograph(
        task_id="collect",
        runner="FlinkRunner",
        pipeline_options=ON_FLINK,
        skip_if_busy=False,
        retries=144,
        retry_delay=timedelta(minutes=10),
    )
    submit >> collect
