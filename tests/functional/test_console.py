"""The console: what it shows of jobs on one machine, what it does with them, and whom it answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from parcelq.errors import ParcelqError
from parcelq.local.manage import LocalJobs
from parcelq_cli.console.local import LocalConsole
from parcelq_cli.console.pages import job_page
from parcelq_cli.console.view import JobView, act, selected
from parcelq_cli.console.web import Console

ID = "a" * 24
PROGRAM = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()"]
STEP = """import os
from parcelq.step import step
@step(each=True)
def score(line):
    if "bad" in line and not os.path.exists(FOLDER + "/mended"):
        raise ValueError(f"bad record {line.strip()!r}")
    if "odd" in line and not os.path.exists(FOLDER + "/mended"):
        raise KeyError("odd")
    return line.upper()
if __name__ == "__main__":
    score.main()
"""
ENTRIES = [b"line %03d\n" % number for number in range(500)]
ENTRIES[3], ENTRIES[4], ENTRIES[480], ENTRIES[499] = b"bad 1\n", b"odd 1\n", b"bad 2\n", b"bad 3\n"


def parcelq(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of a job with four dead records."""
    (tmp_path / "lines.txt").write_bytes(b"".join(ENTRIES))
    (tmp_path / "step.py").write_text(STEP.replace("FOLDER", repr(str(tmp_path))))
    assert parcelq("run", "lines.txt", "--step", "step.py", "--quiet", cwd=tmp_path).returncode == 1
    return tmp_path / "results"


def ended(console: LocalConsole, job: str) -> JobView | None:
    """The view of a job once nothing runs any more."""
    for _ in range(600):
        view = next((one for one in console.views() if one.id == job), None)
        if view is None or view.state != "running":
            return view
        time.sleep(0.1)
    raise TimeoutError(job)


class TestLocalJobs:
    def test_the_console_shows_what_parcelq_jobs_says(self, results: Path) -> None:
        (document,) = map(json.loads, parcelq("jobs", "--json", cwd=results.parent).stdout.splitlines())
        (view,) = LocalConsole(results).views()
        assert (view.id, view.state, view.dead) == (document["job"], document["state"], document["dead"])
        assert 100 * (view.share or 0) == document["percent"] == 100
        assert view.actions == ("redrive",)
        assert document["map"][0] == "▒"
        assert document["map"][-1] == "▒"
        assert set(document["map"]) == {"█", "▒"}
        text = parcelq("jobs", cwd=results.parent).stdout.splitlines()
        assert text[1].strip() == document["map"]

    def test_the_console_runs_only_the_chosen_record_again(self, results: Path) -> None:
        console = LocalConsole(results)
        (view,) = console.views()
        (results.parent / "mended").touch()
        (first, *_) = LocalJobs(results).dead(view.id)
        act(console, view.id, "redrive", selected(span=(first.start, first.end)))
        left = ended(console, view.id)
        assert left is not None
        assert left.dead == 3
        assert [one.record for one in LocalJobs(results).dead(view.id)] == [5, 481, 500]
        assert (results / "lines.txt").read_bytes().count(b"BAD") == 1

    def test_the_console_runs_the_chosen_group_of_records_again_and_then_the_rest(self, results: Path) -> None:
        console = LocalConsole(results)
        (view,) = console.views()
        (results.parent / "mended").touch()
        page = job_page(console, view.id)
        kind = next(part.partition('"')[0] for part in page.split('data-kind="') if part.startswith("ValueError"))
        act(console, view.id, "redrive", selected(kind=kind))
        left = ended(console, view.id)
        assert left is not None
        assert [one.record for one in LocalJobs(results).dead(view.id)] == [5]
        act(console, view.id, "redrive")
        whole = ended(console, view.id)
        assert whole is not None
        assert (whole.state, whole.dead, whole.actions) == ("whole", 0, ())
        assert (results / "lines.txt").read_bytes() == b"".join(ENTRIES).upper()
        assert "All 500 records are in the result." in job_page(console, view.id)

    def test_records_that_fail_again_in_the_console_are_dead_once_and_the_result_stays(self, results: Path) -> None:
        console = LocalConsole(results)
        (view,) = console.views()
        before = (results / "lines.txt").read_bytes()
        act(console, view.id, "redrive")
        left = ended(console, view.id)
        assert left is not None
        assert (left.state, left.dead, left.problem) == ("finished", 4, "")
        assert (results / "lines.txt").read_bytes() == before

    def test_the_console_says_in_one_sentence_what_it_cannot_do(self, results: Path) -> None:
        console = LocalConsole(results)
        (view,) = console.views()
        for action in ("resume", "cancel"):
            with pytest.raises(Exception, match="it is finished, so this action is not possible now"):
                act(console, view.id, action)
        with pytest.raises(Exception, match="there is no such job"):
            act(console, "0" * 24, "redrive")
        act(console, view.id, "redrive", selected(kind="something else"))
        left = ended(console, view.id)
        assert left is not None
        assert "the chosen entries are no longer dead" in left.problem
        assert "the chosen entries are no longer dead" in job_page(console, view.id)

    def test_a_job_whose_source_changed_is_never_called_whole(self, results: Path) -> None:
        console = LocalConsole(results)
        (view,) = console.views()
        (results.parent / "lines.txt").write_bytes(b"bad 9\nother\n")
        parcelq("run", "lines.txt", "--step", "step.py", "--quiet", cwd=results.parent)
        states = {one.id: one.state for one in console.views()}
        assert view.id not in states
        assert set(states.values()) == {"finished"}

    def test_the_console_shows_no_jobs_and_makes_no_folder_where_there_is_none(self, tmp_path: Path) -> None:
        assert LocalConsole(tmp_path / "none").views() == []
        assert not (tmp_path / "none").exists()


class Few(LocalConsole):
    """Jobs for tests of who may ask; it notes which records were to run again."""

    def __init__(self) -> None:
        super().__init__(Path("none"))
        self.done: list[tuple[str, Any]] = []

    def views(self) -> list[JobView]:
        return [JobView(ID, "<script>alert(1)</script>\x1b[31m", "running", None, 7, actions=("redrive",))]

    def redrive(self, job: str, only: Any) -> None:
        self.done.append((job, only))


class TestWhoMayAsk:
    @pytest.fixture
    def jobs(self) -> Few:
        return Few()

    @pytest.fixture
    def console(self, jobs: Few) -> Any:
        made = Console(jobs, "here")
        yield made
        made._server.server_close()

    def ask(self, console: Console, path: str = "", method: str = "GET", **headers: str) -> Any:
        base = {"Host": console.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        secret = console.url.split("/")[3]
        data = json.dumps({"action": "redrive", "kind": "", "range": "3,9"}) if method == "POST" else None
        return console.app.test_client().open(
            f"/{secret}/{path}", method=method, headers=base, data=data, content_type="application/json"
        )

    def good(self, console: Console) -> dict[str, str]:
        return {"Origin": f"http://{console.host}", "X_Parcelq_Token": console._token, "Sec_Fetch_Site": "same-origin"}

    def test_the_console_listens_on_the_loopback_interface_alone(self, console: Console) -> None:
        assert console._server.socket.getsockname()[0] == "127.0.0.1"
        assert console.url.startswith("http://127.0.0.1:")
        assert len(console.url.split("/")[3]) > 40

    def test_the_page_of_the_console_may_start_an_action(self, console: Console, jobs: Few) -> None:
        reply = self.ask(console, f"job/{ID}/act", "POST", **self.good(console))
        assert reply.json == {"said": "Failed records run again."}
        ((job, only),) = jobs.done
        assert job == ID
        assert [only(SimpleNamespace(start=3, end=end)) for end in (9, 10)] == [True, False]

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("Origin", "https://evil.example"),
            ("Origin", "null"),
            ("Origin", ""),
            ("X_Parcelq_Token", ""),
            ("X_Parcelq_Token", "é" * 43),
            ("Sec_Fetch_Site", "cross-site"),
            ("Sec_Fetch_Site", "same-site"),
            ("Host", "evil.example"),
        ],
    )
    def test_the_page_of_another_site_may_not_start_an_action(
        self, console: Console, jobs: Few, header: str, value: str
    ) -> None:
        reply = self.ask(console, f"job/{ID}/act", "POST", **{**self.good(console), header: value})
        assert reply.status_code in {403, 421}
        assert jobs.done == []

    def test_a_name_of_another_site_that_leads_here_shows_nothing(self, console: Console) -> None:
        for host in ("evil.example", f"evil.example:{console.host.rpartition(':')[2]}", "127.0.0.1", "localhost:1"):
            reply = self.ask(console, Host=host)
            assert reply.status_code == 421
            assert b"alert" not in reply.data

    def test_the_console_shows_nothing_without_its_secret(self, console: Console) -> None:
        client = console.app.test_client()
        for path in ("/", "/x/", f"/{'x' * 43}/", "/é/"):
            reply = client.get(path, headers={"Host": console.host})
            assert reply.status_code == 404
            assert console._secret.encode() not in reply.data

    def test_no_reply_of_the_console_allows_other_sites_to_read_it(self, console: Console) -> None:
        for method in ("GET", "OPTIONS", "HEAD"):
            reply = self.ask(console, "", method, Origin="https://evil.example")
            assert not [name for name, _ in reply.headers if name.startswith("Access-Control")]
            assert reply.headers["X-Frame-Options"] == "DENY"
            assert reply.headers["Referrer-Policy"] == "no-referrer"
            assert reply.headers["Cache-Control"] == "no-store"

    def test_a_get_request_to_the_console_changes_nothing(self, console: Console, jobs: Few) -> None:
        assert self.ask(console, f"job/{ID}/act", **self.good(console)).status_code in {404, 405}
        assert jobs.done == []

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"{}",
            b'{"action": "delete"}',
            b'{"action": "redrive", "range": "x"}',
            b'{"action": 7}',
            b"x" * 20_000,
        ],
    )
    def test_the_console_refuses_a_request_that_is_no_action(self, console: Console, jobs: Few, body: bytes) -> None:
        headers = {"Host": console.host, **{name.replace("_", "-"): one for name, one in self.good(console).items()}}
        path = f"/{console._secret}/job/{ID}/act"
        reply = console.app.test_client().post(path, headers=headers, data=body, content_type="application/json")
        assert 400 <= reply.status_code < 500
        assert jobs.done == []

    def test_the_console_escapes_the_names_that_it_shows(self, console: Console) -> None:
        page = self.ask(console).data.decode()
        assert "<script>alert" not in page
        assert r"&lt;script&gt;alert(1)&lt;/script&gt;\x1b[31m" in page

    def test_the_console_names_a_job_that_is_not_there(self, console: Console) -> None:
        reply = self.ask(console, "job/abc")
        assert reply.status_code == 404
        assert "there is no such job" in reply.text

    @pytest.mark.parametrize(
        ("error", "sentence"),
        [
            (ParcelqError("the request failed: AWS does not answer"), "the request failed: AWS does not answer"),
            (PermissionError(13, "Permission denied", "results/.parcelq"), "results/.parcelq: Permission denied"),
        ],
    )
    def test_what_cannot_be_read_now_is_said_in_a_sentence(
        self, console: Console, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
    ) -> None:
        def refused(_jobs: Few) -> list[JobView]:
            raise error

        monkeypatch.setattr(Few, "views", refused)
        assert self.ask(console, f"job/{ID}/act", "POST", **self.good(console)).json == {"error": sentence}
        for path in ("", f"job/{ID}"):
            reply = self.ask(console, path)
            assert (reply.status_code, reply.mimetype) == (503, "text/plain")
            assert reply.text.strip() == sentence


class TestCommand:
    def test_the_console_names_a_port_that_is_taken(self, tmp_path: Path) -> None:
        made = Console(Few(), "here")
        port = made.host.rpartition(":")[2]
        done = parcelq("console", "--port", port, cwd=tmp_path)
        made._server.server_close()
        assert done.returncode == 1
        assert done.stderr.strip() == f"parcelq: port {port} of 127.0.0.1 is taken; give another --port"

    def test_without_its_packages_the_console_says_what_to_install(self, tmp_path: Path) -> None:
        code = "import sys; sys.modules['flask'] = None; from parcelq_cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, "console"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "pip install 'parcelq[console]'" in done.stderr

    def test_the_console_prints_only_the_address_that_was_asked_for(self, tmp_path: Path) -> None:
        process = subprocess.Popen(
            [*PROGRAM, "console", "--json"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout
        url = json.loads(process.stdout.readline())["url"]
        import urllib.request

        assert b"All jobs are complete" in urllib.request.urlopen(url, timeout=20).read()
        process.send_signal(2)
        out, err = process.communicate(timeout=20)
        assert out == ""
        assert url.split("/")[3] not in err
        assert process.returncode == 0
