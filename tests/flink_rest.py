"""Flink's REST interface, as far as jobs ask it anything, without Flink."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Rest:
    """Answers as Flink 1.19.3 gave them, of a cluster of two TaskManagers of two slots."""

    def __init__(self):
        self.overview = {
            **{"taskmanagers": 2, "slots-total": 4, "slots-available": 3, "jobs-running": 1},
            **{"flink-version": "1.19.3", "flink-commit": "4105f8d"},
        }
        self.config = [{"key": "rest.port", "value": "8081"}]
        self.jobs = []
        self.cancelled = []
        self.trace = ""

    def answer(self, path):
        if path == "/taskmanagers":
            return {"taskmanagers": [{"id": f"tm{n}", "slotsNumber": 2} for n in range(2)]}
        if path.endswith("/exceptions"):
            return {"exceptionHistory": {"entries": [{"stacktrace": self.trace}]}}
        known = {"/overview": self.overview, "/jobmanager/config": self.config}
        return known.get(path, {"jobs": self.jobs})

    def cancel(self, path):
        number = path.split("/")[2].partition("?")[0]
        self.cancelled.append(number)
        for one in self.jobs:
            if one["jid"] == number:
                one["state"] = "CANCELED"


@contextlib.contextmanager
def answering():
    """Run an HTTP server with these answers; its address is `master` of what this gives."""
    state = Rest()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.give(state.answer(self.path))

        def do_PATCH(self):
            state.cancel(self.path)
            self.give({})

        def give(self, found):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.master = f"127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
