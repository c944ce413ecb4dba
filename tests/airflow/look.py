"""Run by Airflow's Python: what it makes of the DAGs, in JSON on the last line.

look.py dags: what is in them, and whether they can be read at all.
look.py ends TRY CODE...: with which exception a task's try of this number ends whose command has
each of these exit codes; the command is what HELIOGRAPH_PYTHON names, and finds it in EXIT_CODE.
"""

import json
import os
import sys
from types import SimpleNamespace

from airflow.dag_processing.dagbag import DagBag
from airflow.providers.apache.beam.operators.beam import BeamRunPythonPipelineOperator

bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])


def dags():
    return {
        "errors": bag.import_errors,
        "dags": {
            name: {
                "catchup": dag.catchup,
                "max_active_runs": dag.max_active_runs,
                "tasks": {
                    task.task_id: {
                        "is_beam": isinstance(task, BeamRunPythonPipelineOperator),
                        "py_file": task.py_file,
                        "py_interpreter": task.py_interpreter,
                        "deferrable": task.deferrable,
                        "retries": task.retries,
                        "upstream": sorted(task.upstream_task_ids),
                    }
                    for task in dag.tasks
                },
            }
            for name, dag in bag.dags.items()
        },
    }


def ends(number, *codes):
    found = {}
    context = {"ti": SimpleNamespace(try_number=int(number))}
    for dag, name in (("heliograph", "restore"), ("heliograph_on_flink", "collect")):
        task = bag.dags[dag].get_task(name)
        for code in codes:
            os.environ["EXIT_CODE"] = code
            try:
                task.execute(context)
            except Exception as error:
                found.setdefault(name, {})[code] = [type(error).__name__, str(error)]
            else:
                found.setdefault(name, {})[code] = None
    return found


told = dags() if sys.argv[1] == "dags" else ends(*sys.argv[2:])
sys.stdout.flush()
print(json.dumps(told))
