"""A real, small Flink cluster on this machine, on loopback alone: a JobManager, TaskManagers, and a
pool of Beam workers.

    python deploy/flink/cluster.py fetch       # Flink and Beam's job server, once
    python deploy/flink/cluster.py start       # and tell how to use it
    python deploy/flink/cluster.py status
    python deploy/flink/cluster.py stop

All of it is below one folder (`--folder`, .flink): jars, configuration, logs, temporary files. A
supervisor starts a TaskManager again that has died, as Kubernetes would, and takes all of them
with it when it ends. Java 11 or 17 must be there, and Maven to fetch the job server.
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HOST = "127.0.0.1"
FLINK = "1.19.3"
# Beam's job server for that Flink: of the version of Beam that is installed, or made of modules.
MODULES = "2.62.0"

# What Flink's own start scripts open to it, of Java 17.
_OPENS = (
    *(
        f"--add-opens=java.base/{package}=ALL-UNNAMED"
        for package in (
            *("java.util", "java.lang", "java.net", "java.nio", "java.io", "java.time"),
            *("sun.nio.ch", "java.util.concurrent", "java.lang.reflect", "java.text"),
        )
    ),
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
)

_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.file.ref = File
appender.file.name = File
appender.file.type = FILE
appender.file.fileName = ${sys:log.file}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{HH:mm:ss,SSS} %-5p %-40.40c{1} - %m%n
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if it did what was asked."""
    parser = argparse.ArgumentParser(
        prog="cluster.py", description="A small Flink cluster on this machine, on loopback alone."
    )
    parser.add_argument("command", choices=tuple(_COMMANDS))
    parser.add_argument("--folder", type=Path, default=Path(".flink"), help="(%(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="of REST (%(default)s)")
    parser.add_argument("--rpc_port", type=int, default=6123, help="of RPC (%(default)s)")
    parser.add_argument("--blob_port", type=int, default=6124, help="of jars (%(default)s)")
    parser.add_argument("--pool_port", type=int, default=50000, help="of workers (%(default)s)")
    parser.add_argument("--taskmanagers", type=int, default=2, metavar="N", help="(%(default)s)")
    parser.add_argument("--slots", type=int, default=1, metavar="N", help="each (%(default)s)")
    args = parser.parse_args(argv)
    args.folder = args.folder.resolve()
    try:
        _COMMANDS[args.command](args)
    except ClusterError as error:
        print(f"cluster.py: {error}", file=sys.stderr)
        return 1
    return 0


class ClusterError(RuntimeError):
    """What is not as it should be, and what to do."""


def fetch(args: argparse.Namespace) -> None:
    """Get Flink's jars and Beam's job server, where they are not there yet."""
    jars = args.folder / "jars"
    jars.mkdir(parents=True, exist_ok=True)
    if not list(jars.glob("flink/flink-dist-*.jar")):
        _fetch_flink(jars)
    if not (jars / "job-server.jar").exists():
        _fetch_job_server(jars)


def _fetch_flink(jars: Path) -> None:
    download = jars / "download"
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest")
    _run(*command, str(download), f"apache-flink-libraries=={FLINK}")
    (jars / "flink.part").mkdir(exist_ok=True)
    for archive in download.iterdir():
        for name, data in _members(archive):
            if "/lib/" in name and name.endswith(".jar"):
                (jars / "flink.part" / Path(name).name).write_bytes(data)
    (jars / "flink.part").rename(jars / "flink")
    shutil.rmtree(download)


def _members(archive: Path):
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            for name in file.namelist():
                yield name, file.read(name)
        return
    with tarfile.open(archive) as file:
        for member in file:
            if member.isfile():
                opened = file.extractfile(member)
                assert opened is not None, "it is a file"
                yield member.name, opened.read()


def _fetch_job_server(jars: Path) -> None:
    """Get Beam's own, of the version of Beam that is here; else make one of Beam's modules."""
    import apache_beam

    series = FLINK.rpartition(".")[0]
    artifact = f"beam-runners-flink-{series}-job-server"
    copied = jars / f"{artifact}-{apache_beam.__version__}.jar"
    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
    try:
        _run(
            *("mvn", "--batch-mode", "--quiet", plugin, f"-DoutputDirectory={jars}"),
            f"-Dartifact=org.apache.beam:{artifact}:{apache_beam.__version__}",
        )
        copied.rename(jars / "job-server.jar")
        return
    except ClusterError as error:
        if "not found" not in str(error) and "Could not find" not in str(error):
            raise
        print(
            f"cluster.py: Maven has no {artifact} {apache_beam.__version__}: making one of Beam's "
            f"modules {MODULES}",
            file=sys.stderr,
        )
    pom = Path(__file__).parent / "job-server" / "pom.xml"
    made = jars / "made"
    _run(
        *("mvn", "--batch-mode", "--quiet", "--file", str(pom), "package"),
        *(f"-DoutputDirectory={made}", f"-Dbeam.version={MODULES}", f"-Dflink.version={series}"),
    )
    (made / "job-server.jar").rename(jars / "job-server.jar")
    shutil.rmtree(made)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is not installed") from error
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()][:1]
        raise ClusterError(f"{' '.join(command[:4])} … failed: {' '.join(said)}")


def start(args: argparse.Namespace) -> None:
    """Start the supervisor, and wait until all TaskManagers are there."""
    if _supervisor(args.folder) is not None:
        raise ClusterError(f"a cluster runs in {args.folder}: stop it first")
    if not (args.folder / "jars" / "job-server.jar").exists():
        fetch(args)
    for port in (args.port, args.rpc_port, args.blob_port, args.pool_port):
        if _is_taken(port):
            raise ClusterError(f"port {port} is taken: choose another (see --help)")
    (args.folder / "log").mkdir(exist_ok=True)
    with (args.folder / "log" / "supervisor.log").open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, __file__, *_said(args)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (args.folder / "supervisor.pid").write_text(str(supervisor.pid))
    ends = time.monotonic() + 600
    slots = args.taskmanagers * args.slots
    while (overview := _overview(args.port)).get("slots-total") != slots:
        if supervisor.poll() is not None or time.monotonic() > ends:
            stop(args)
            raise ClusterError(f"it did not start: {overview}; see {args.folder / 'log'}")
        time.sleep(0.3)
    print(
        f"Flink {overview['flink-version']} is up: {args.taskmanagers} TaskManagers, "
        f"{overview['slots-total']} slots. To run a job on it:\n"
        f"heliograph restore ARCHIVE OUTPUT --runner FlinkRunner --flink_master "
        f"localhost:{args.port} --flink_version {FLINK.rpartition('.')[0]} "
        f"--flink_job_server_jar {args.folder / 'jars' / 'job-server.jar'}\n"
        "Each TaskManager starts workers of its own. To take those of the pool instead, add:\n"
        f"--environment_type EXTERNAL --environment_config {HOST}:{args.pool_port}"
    )


def _said(args: argparse.Namespace) -> list[str]:
    numbers = ("port", "rpc_port", "blob_port", "pool_port", "taskmanagers", "slots")
    pairs = [word for name in numbers for word in (f"--{name}", str(getattr(args, name)))]
    return ["supervise", "--folder", str(args.folder), *pairs]


def stop(args: argparse.Namespace) -> None:
    """End the supervisor, and all of its processes with it; leave their logs."""
    pid = _supervisor(args.folder)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        ends = time.monotonic() + 30
        while _is_ours(pid, args.folder):
            if time.monotonic() > ends:
                os.kill(pid, signal.SIGKILL)  # the kernel ends its children, too
            time.sleep(0.1)
    for path in args.folder.glob("*.pid"):
        path.unlink()
    for name in ("tmp", "conf"):
        shutil.rmtree(args.folder / name, ignore_errors=True)


def status(args: argparse.Namespace) -> None:
    """Print what Flink says of itself, and its processes."""
    print(json.dumps({"overview": _overview(args.port), "pids": pids(args.folder)}, indent=1))


def pids(folder: Path) -> dict[str, int]:
    """Give the process numbers of the cluster in a folder, by name."""
    return {path.stem: int(path.read_text()) for path in sorted(folder.glob("*.pid"))}


def supervise(args: argparse.Namespace) -> None:
    """Run the processes of a cluster until a signal ends this one."""
    ended = False

    def end(number: int, frame: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    shutil.rmtree(args.folder / "tmp", ignore_errors=True)
    (args.folder / "tmp").mkdir()
    running = {"jobmanager": _start_java(args, "jobmanager"), "pool": _start_pool(args, "pool")}
    managers = [f"taskmanager-{number}" for number in range(1, args.taskmanagers + 1)]
    starters = dict.fromkeys(("jobmanager", *managers), _start_java) | {"pool": _start_pool}
    while not ended:
        time.sleep(0.5)
        for name, process in running.items():
            code = process.poll()
            # A JobManager that was killed has lost its jobs, and somebody should know. One that
            # gives up has not started: Flink lets it take 10 seconds to, however busy a machine is.
            if code is not None and (name != "jobmanager" or code > 0):
                print(f"{name} ended with {code}: starting it again", flush=True)
                running[name] = starters[name](args, name)
        if managers[0] not in running and "error" not in _overview(args.port):
            running |= {name: _start_java(args, name) for name in managers}
    for process in reversed(running.values()):
        process.terminate()
    for process in running.values():
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# Of each process: the heap in MB, what else it tells Java, and its class.
_PROCESSES = {
    "jobmanager": (
        400,
        (),
        "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
    ),
    "taskmanager": (
        384,
        ("-XX:MaxDirectMemorySize=320m",),
        "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
    ),
}


def _start_java(args: argparse.Namespace, name: str) -> subprocess.Popen:
    kind = name.partition("-")[0]
    heap, further, main_class = _PROCESSES[kind]
    conf = args.folder / "conf" / name
    conf.mkdir(parents=True, exist_ok=True)
    settings = {**_common(args), **(_of_taskmanager(args, name) if kind == "taskmanager" else {})}
    text = "".join(f"{key}: {value}\n" for key, value in settings.items())
    (conf / "config.yaml").write_text(text)
    (conf / "log4j.properties").write_text(_LOGGING)
    log = args.folder / "log" / f"{name}.log"
    command = [
        *("java", f"-Xmx{heap}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *further, *_OPENS),
        f"-Dlog.file={log}",
        f"-Dlog4j.configurationFile={conf / 'log4j.properties'}",
        f"-Djava.io.tmpdir={args.folder / 'tmp'}",
        *("-cp", f"{args.folder / 'jars' / 'flink'}/*", main_class, "-c", str(conf)),
    ]
    with log.with_suffix(".out").open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=_die_with_parent
        )
    (args.folder / f"{name}.pid").write_text(str(process.pid))
    return process


def _start_pool(args: argparse.Namespace, name: str) -> subprocess.Popen:
    with (args.folder / "log" / f"{name}.out").open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, __file__, "pool", "--pool_port", str(args.pool_port)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            preexec_fn=_die_with_parent,
        )
    (args.folder / f"{name}.pid").write_text(str(process.pid))
    return process


def pool(args: argparse.Namespace) -> None:
    """Start workers as they are asked for, until a signal ends this process.

    Beam's own program for it (apache_beam.runners.worker.worker_pool_main) listens to the whole
    network, and starts what anybody there asks for.
    """
    import grpc
    from apache_beam.portability.api import beam_fn_api_pb2_grpc
    from apache_beam.runners.worker import worker_pool_main

    # The script's first line asks for python3, which is to be this one.
    folder = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join((folder, os.environ.get("PATH", os.defpath)))
    worker = Path(__file__).parents[2] / "pipeline" / "cluster_worker.py"
    servicer = worker_pool_main.BeamFnExternalWorkerPoolServicer(
        use_process=True, container_executable=str(worker)
    )
    server = grpc.server(ThreadPoolExecutor(4))
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(servicer, server)
    server.add_insecure_port(f"{HOST}:{args.pool_port}")
    server.start()
    server.wait_for_termination()


def _common(args: argparse.Namespace) -> dict[str, object]:
    return {
        "jobmanager.rpc.address": HOST,
        "jobmanager.rpc.port": args.rpc_port,
        "jobmanager.bind-host": HOST,
        "jobmanager.memory.process.size": "1024m",
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "rest.port": args.port,
        "blob.server.port": args.blob_port,
        "parallelism.default": args.taskmanagers * args.slots,
        "io.tmp.dirs": args.folder / "tmp",
        # A TaskManager that is gone: begin anew once there is another, which takes seconds.
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 10,
        "restart-strategy.fixed-delay.delay": "3 s",
        "pekko.ask.timeout": "60 s",  # of a machine that has other things to do, too
        "heartbeat.interval": 2000,
        "heartbeat.timeout": 20000,
    }


def _of_taskmanager(args: argparse.Namespace, name: str) -> dict[str, object]:
    # Flink's start scripts would derive these; without them, each must be said.
    return {
        "taskmanager.host": HOST,
        "taskmanager.bind-host": HOST,
        "taskmanager.resource-id": f"{name}-{os.urandom(3).hex()}",
        "taskmanager.numberOfTaskSlots": args.slots,
        "taskmanager.cpu.cores": float(args.slots),
        "taskmanager.memory.task.heap.size": "256m",
        "taskmanager.memory.task.off-heap.size": "64m",
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "64m",
        "taskmanager.memory.managed.size": "64m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
    }


def _die_with_parent() -> None:
    # PR_SET_PDEATHSIG: however the supervisor ends, nothing of the cluster is left.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _supervisor(folder: Path) -> int | None:
    """Give the number of the supervisor that runs in a folder, if one does."""
    pid = pids(folder).get("supervisor")
    return pid if pid is not None and _is_ours(pid, folder) else None


def _is_ours(pid: int, folder: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"supervise" in words and os.fsencode(folder) in words


def _overview(port: int) -> dict:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/overview", timeout=5) as answer:
            return json.load(answer)
    except (OSError, urllib.error.URLError, ValueError) as error:
        return {"error": str(error)}


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "fetch": fetch,
    "start": start,
    "status": status,
    "stop": stop,
    "supervise": supervise,
    "pool": pool,
}

if __name__ == "__main__":
    sys.exit(main())
