"""`make audit` against a stub of the vulnerability service, since nobody knows what the real one says today."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOUND = {"vulns": [{"id": "PYSEC-1-1", "summary": "bad", "affected": []}]}


@contextmanager
def service(vulnerable: set[str]) -> Iterator[str]:
    """A service of the OSV API that knows one vulnerability of each of these packages, and one of pip 1.0."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name, version = query["package"]["name"], query["version"]
            known = name in vulnerable or (name, version) == ("pip", "1.0")
            body = json.dumps(FOUND if known else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def audit(osv: str) -> subprocess.CompletedProcess[str]:
    # The environment that runs this is the one that is audited, wherever it lies.
    command = [
        "make",
        "--no-print-directory",
        "--old-file=setup",
        "audit",
        f"OSV={osv}",
        f"BIN={Path(sys.executable).parent}",
    ]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_PROXY": "127.0.0.1"}, capture_output=True, text=True, check=False
    )


def test_an_audit_fails_when_a_package_is_vulnerable() -> None:
    with service({"pyyaml"}) as osv:
        done = audit(osv)
    assert done.returncode != 0
    assert "pyyaml" in done.stdout
    assert "PYSEC-1-1" in done.stdout


def test_an_audit_passes_when_no_package_has_a_known_vulnerability() -> None:
    with service(set()) as osv:
        done = audit(osv)
    assert done.returncode == 0, done.stderr
    assert "No known vulnerabilities found" in done.stderr


def test_without_a_vulnerability_service_the_audit_says_so_and_does_not_fail() -> None:
    with service(set()) as osv:
        pass
    done = audit(osv)
    assert done.returncode == 0
    assert done.stdout == "not audited: no vulnerability service reachable\n"
