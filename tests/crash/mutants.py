"""Breaks each guard in the code, one at a time, and sees to it that tests notice: `make guards`.

Without arguments all are broken; with arguments those of which what they do has one of them in its words. Files are put
back as they were. The table in docs/guards.md tells the same; `python tests/crash/mutants.py --table` writes its rows.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LIBRARY: Final = "layers/parcelq/python/parcelq"
PIPELINE: Final = "tests/crash/test_crash.py::test_one_bad_line_and_a_fault_at_any_call"
LARGE: Final = "tests/crash/test_crash.py::test_a_large_object_told_of_twice_and_a_fault_at_any_call"
DEADLY: Final = "tests/crash/test_crash.py::test_a_line_that_takes_the_function_down_dies_alone"


@dataclass(frozen=True)
class Guard:
    """Something in the code that keeps a failure from costing anything.

    Attributes:
        what: what it does.
        file: where it is.
        code: the text that is changed, which is there once.
        broken: what it is changed to.
        tests: those that must fail then, as pytest is told of them.
    """

    what: str
    file: str
    code: str
    broken: str
    tests: tuple[str, ...]


def _functional(name: str, test: str) -> str:
    return f"tests/functional/test_{name}.py::{test}"


GUARDS: Final = (
    # Publishing and acknowledging.
    Guard(
        "what SQS lists as failed was not published",
        f"{LIBRARY}/publish.py",
        'failures = reply.get("Failed", [])',
        "failures = []",
        (f"{PIPELINE}[first entry refused", f"{PIPELINE}[last entry fails to the end"),
    ),
    Guard(
        "an entry that failed by SQS's fault is sent again",
        f"{LIBRARY}/publish.py",
        'rest = [rest[int(one["Id"])] for one in failures if not one["SenderFault"]]',
        "rest = []",
        (_functional("publish", "TestFaults"),),
    ),
    Guard(
        "a request that is throttled is sent again",
        f"{LIBRARY}/publish.py",
        "if not error.server_fault or attempt == _ATTEMPTS - 1:",
        "if True:",
        (_functional("publish", "TestFaults"),),
    ),
    Guard(
        "what SQS lists as failed was not acknowledged, nor is its deadline reset",
        f"{LIBRARY}/pull.py",
        'failures = request(QueueUrl=topic_url, Entries=entries).get("Failed", [])',
        "failures = [] if request(QueueUrl=topic_url, Entries=entries) else []",
        (_functional("pull", "TestAcknowledge"), _functional("pull", "TestRefreshDeadline")),
    ),
    Guard(
        "the deadline of messages in hand is reset while work on them goes on",
        f"{LIBRARY}/lease.py",
        "            self._refresh()\n\n    def _refresh",
        "            pass\n\n    def _refresh",
        ("tests/functional/test_lease.py",),
    ),
    # Uploading.
    Guard(
        "an object of which not all was published is uploaded again",
        f"{LIBRARY}/transfer.py",
        "    if failed:\n        raise PublishError(topic_url",
        "    if False:\n        raise PublishError(topic_url",
        (f"{PIPELINE}[first entry refused",),
    ),
    Guard(
        "ranges of which not all were published are published again",
        f"{LIBRARY}/objects.py",
        "        if failed:\n            raise PublishError(range_topic_url",
        "        if False:\n            raise PublishError(range_topic_url",
        (f"{LARGE}[first entry refused",),
    ),
    Guard(
        "a range that failed is delivered again, alone",
        "functions/uploader/app.py",
        'return [{"itemIdentifier": pulled.message_id}]',
        "return []",
        (f"{LARGE}[unavailable to the end", _functional("functions", "TestRanges")),
    ),
    Guard(
        "only the object that the event tells of is read",
        f"{LIBRARY}/objects.py",
        """{"IfMatch": f'"{source.etag}"'}""",
        "{}",
        (_functional("functions", "TestUploader"), _functional("functions", "TestRanges")),
    ),
    Guard(
        "a source names one put, by the event's sequencer",
        "functions/uploader/app.py",
        'put=entity["sequencer"]',
        'put="1"',
        (_functional("functions", "TestUploader"),),
    ),
    # Processing.
    Guard(
        "messages that failed are reported, and only they",
        "functions/processor/app.py",
        '{"itemIdentifier": pulled.message_id} for pulled, _ in outcome.failed',
        '{"itemIdentifier": pulled.message_id} for pulled, _ in outcome.failed[:0]',
        (f"{PIPELINE}[killed before",),
    ),
    Guard(
        "a message is done only when all its output is published",
        f"{LIBRARY}/process.py",
        "        elif unpublished:",
        "        elif False:",
        (f"{PIPELINE}[last entry fails to the end", f"{PIPELINE}[unavailable to the end"),
    ),
    Guard(
        "groups that did not have their turn when publishing was refused are not done",
        f"{LIBRARY}/process.py",
        "            outcome.failed += [(one, refused.reason) for one in left]",
        "            pass",
        (_functional("process", "TestPublishingFails"),),
    ),
    Guard(
        "a message is split only when all its parts are published",
        f"{LIBRARY}/process.py",
        "            if lost := failed(one):\n                outcome.failed.append((one.work.pulled, lost.reason))",
        "            if False:\n                outcome.failed.append((one.work.pulled, ''))",
        (f"{PIPELINE}[last entry refused", f"{PIPELINE}[unavailable to the end"),
    ),
    Guard(
        "a message is dead only when letter and tombstone are published",
        f"{LIBRARY}/process.py",
        "        if failed:\n            raise PublishError(topic_url, [one.reason for one in failed])",
        "        if False:\n            raise PublishError(topic_url, [one.reason for one in failed])",
        (f"{PIPELINE}[first entry refused", f"{PIPELINE}[last entry refused"),
    ),
    Guard(
        "what failed together is run alone",
        f"{LIBRARY}/process.py",
        "                            waiting += [[one] for one in run.group]",
        "                            pass",
        (_functional("process", "TestFailingTogether"),),
    ),
    Guard(
        "what failed together, or was cut off, and goes back for lack of time runs alone when it comes again",
        f"{LIBRARY}/process.py",
        "with_attributes(work.message, **{HALVED: halved}) if run.alone else work.message",
        "work.message",
        (_functional("process", "TestTimeRunningOut"),),
    ),
    Guard(
        "what goes back for lack of time keeps the receives that it has used up",
        f"{LIBRARY}/message.py",
        "return with_attributes(message, **{RECEIVED_BEFORE: str(before)}) if before else message",
        "return message",
        (_functional("process", "TestTimeRunningOut"),),
    ),
    Guard(
        "what failed before runs first, so that there is the time to see it fail",
        f"{LIBRARY}/plan.py",
        "alone + together",
        "together + alone",
        ("tests/unit/test_plan.py",),
    ),
    Guard(
        "an output that cannot be told of fails its message alone",
        f"{LIBRARY}/process.py",
        "            except (ParcelqError, OSError) as error:\n                run.output",
        "            except ZeroDivisionError as error:\n                run.output",
        (_functional("process", "TestOddOutput"),),
    ),
    Guard(
        "an output is a file of its own",
        f"{LIBRARY}/run.py",
        "    if output.is_symlink():",
        "    if False:",
        (_functional("process", "TestOddOutput"),),
    ),
    Guard(
        "a machine that lacks room for a run fails its messages alone",
        f"{LIBRARY}/run.py",
        '    except OSError as error:\n        reason = f"{what}',
        '    except ZeroDivisionError as error:\n        reason = f"{what}',
        (_functional("process", "TestNoRoom"),),
    ),
    Guard(
        "for lack of room nothing dies that had others beside it",
        f"{LIBRARY}/process.py",
        "        if innocent or not self._is_last(work.pulled):",
        "        if not self._is_last(work.pulled):",
        (_functional("process", "TestNoRoom"),),
    ),
    Guard(
        "what failed before runs alone",
        f"{LIBRARY}/plan.py",
        "        elif receives > 1 or HALVED in attributes:",
        "        elif False:",
        ("tests/unit/test_plan.py", _functional("process", "TestHalving")),
    ),
    Guard(
        "a message that came for the last time is halved, not run whole",
        f"{LIBRARY}/plan.py",
        "        if halving and receives >= max(2, max_receive_count) and one.entries > 1:",
        "        if False:",
        (_functional("process", "TestHalving"), DEADLY),
    ),
    Guard(
        "where the only time is the last, a message that failed is halved",
        f"{LIBRARY}/process.py",
        "        elif self.halving and work.entries > 1:",
        "        elif False:",
        (_functional("process", "TestHalving"),),
    ),
    Guard(
        "SQS gives a message out oftener than it is run",
        f"{LIBRARY}/process.py",
        "SPARE_RECEIVES: Final = 3",
        "SPARE_RECEIVES: Final = 0",
        (f"{PIPELINE}[killed before", f"{PIPELINE}[last entry refused", "tests/template/test_emulate_template.py"),
    ),
    Guard(
        "what may have taken the function down runs with nothing beside it",
        f"{LIBRARY}/process.py",
        "groups = self._isolate(plan, outcome) if plan.suspects else plan.groups",
        "groups = plan.groups + [[one] for one in plan.suspects]",
        (DEADLY,),
    ),
    Guard(
        "the others of its invocation are acknowledged first",
        f"{LIBRARY}/process.py",
        "            left = acknowledge(self.sqs, self.route.input, outcome.done)",
        "            left = outcome.done[:0]",
        (_functional("process", "TestWhatTheFunctionDidNotSurvive"),),
    ),
    Guard(
        "they are suspects too, wherever they come next",
        f"{LIBRARY}/process.py",
        'marks = {ALONE: "1", RECEIVED_BEFORE: None}',
        "marks = {RECEIVED_BEFORE: None}",
        (_functional("process", "TestWhatTheFunctionDidNotSurvive"),),
    ),
    Guard(
        "what took the function down alone is not run again",
        f"{LIBRARY}/plan.py",
        "            lost.append(one)",
        "            suspects.append(one)",
        (DEADLY,),
    ),
    Guard(
        "a tombstone is published ahead of a last run",
        f"{LIBRARY}/process.py",
        "        self._announce_last_runs(groups, outcome)",
        "        pass",
        ("tests/crash/test_crash.py::test_where_sqs_buries_it_first_the_source_is_finished_all_the_same",),
    ),
    Guard(
        "a message that nobody can read is buried with the reason",
        f"{LIBRARY}/process.py",
        "                    self._give_up_unread(one, reason_of(error), outcome)",
        "                    outcome.failed.append((one, str(error)))",
        (_functional("process", "TestDying"),),
    ),
    Guard(
        "others' attributes give way to Parcelq's where there is no room for both",
        f"{LIBRARY}/message.py",
        "    foreign = [name for name in kept if name not in own][:room]",
        "    foreign = [name for name in kept if name not in own]",
        (_functional("process", "TestReparcelling"),),
    ),
    Guard(
        "a failed message comes again after seconds, not after the deadline",
        f"{LIBRARY}/process.py",
        "        self._back_off([one for one, _ in outcome.failed])",
        "        pass",
        (_functional("process", "TestBackOff"),),
    ),
    Guard(
        "no run begins when there is no time",
        f"{LIBRARY}/budget.py",
        "        if remaining <= 0 or (begins_late and wanted > remaining):",
        "        if False:",
        ("tests/unit/test_budget.py", _functional("process", "TestTimeRunningOut")),
    ),
    Guard(
        "a run that began late and was cut off says nothing against its message",
        f"{LIBRARY}/runs.py",
        "            if limit.short and error.timed_out:",
        "            if False:",
        (_functional("process", "TestTimeRunningOut"),),
    ),
    Guard(
        "what there was no time for is done only when it is published again",
        f"{LIBRARY}/process.py",
        "            if lost := failed(one):\n                outcome.failed.append((one.pulled, lost.reason))",
        "            if False:\n                outcome.failed.append((one.pulled, ''))",
        (_functional("process", "TestTimeRunningOut"),),
    ),
    Guard(
        "the same bytes in one invocation are run once",
        f"{LIBRARY}/plan.py",
        "first.setdefault(one.place, one) if one.lineage else one",
        "one",
        (_functional("process", "TestRepeats"),),
    ),
    Guard(
        "wrong settings cost messages no receive",
        "functions/processor/app.py",
        "        give_back(event)\n",
        "",
        (_functional("functions", "TestProcessor"),),
    ),
    # Steps.
    Guard(
        "a step's folder is removed however the run ends",
        f"{LIBRARY}/run.py",
        "folder = Path(made.enter_context(temporary))",
        "folder = Path(tempfile.mkdtemp())",
        (f"{PIPELINE}[killed before",),
    ),
    Guard(
        "a step is killed with its process group",
        f"{LIBRARY}/containment.py",
        "os.killpg(process.pid, signal.SIGKILL)",
        "os.kill(process.pid, signal.SIGKILL)",
        (_functional("run", "TestTime"),),
    ),
    # Lineage.
    Guard(
        "the digest of a run keeps its output apart from that of others",
        f"{LIBRARY}/output.py",
        "    digest = _digest(output)",
        '    digest = "00000000"',
        ("tests/crash/test_crash.py::test_a_step_that_never_does_the_same_twice",),
    ),
    # Collecting.
    Guard(
        "messages are acknowledged after they are stored",
        f"{LIBRARY}/drain.py",
        "            topic = topic_of_url(drainer.topic_url)\n",
        "            topic = topic_of_url(drainer.topic_url)\n            self._acknowledge(held.pulled)\n",
        (f"{PIPELINE}[killed before", f"{PIPELINE}[unavailable to the end"),
    ),
    Guard(
        "a message that nobody can read stays on the output topic",
        f"{LIBRARY}/drain.py",
        "            except MessageError as error:",
        "            except MessageError as error:\n                self.held.pulled.append(one)",
        (_functional("collect", "TestDraining"),),
    ),
    Guard(
        "a result is written on the condition that nobody else did meanwhile",
        f"{LIBRARY}/results.py",
        '{"IfMatch": seen.etag} if seen else {"IfNoneMatch": "*"}',
        "{}",
        ("tests/functional/test_collect.py",),
    ),
    Guard(
        "the result of an older put never replaces that of a newer one",
        f"{LIBRARY}/collect.py",
        "        if present and _is_newer(present, source):",
        "        if False:",
        (_functional("collect", "TestLateAndOlder"),),
    ),
    Guard(
        "a multipart upload that fails is aborted",
        f"{LIBRARY}/results.py",
        "            self.s3.abort_multipart_upload(**place)",
        "            pass",
        (f"{LARGE}[cut off",),
    ),
    Guard(
        "segments are kept until a source is whole",
        f"{LIBRARY}/collect.py",
        "        self._report(gathered, resolution, key)\n        if resolution.whole:\n",
        "        self._report(gathered, resolution, key)\n        if True:\n",
        (f"{PIPELINE}[killed before",),
    ),
    Guard(
        "a report is not written again from what is left of a source",
        f"{LIBRARY}/collect.py",
        "if resolution.whole and not self._is_reported(gathered.source, key):",
        "if resolution.whole:",
        (f"{LARGE}[last entry refused", f"{LARGE}[killed after"),
    ),
    Guard(
        "a report that is missing is written when the result is there already",
        f"{LIBRARY}/collect.py",
        "if resolution.whole and not self._is_reported(gathered.source, key):",
        "if False:",
        (f"{LARGE}[killed after",),
    ),
    Guard(
        "notes of uploads are deleted before the segments",
        f"{LIBRARY}/collect.py",
        "        self.store.delete(note_keys(self.store, gathered.source))\n        self.store.delete(gathered.keys)\n",
        "        self.store.delete(gathered.keys)\n        self.store.delete(note_keys(self.store, gathered.source))\n",
        (f"{LARGE}[killed after",),
    ),
    # Dead letters.
    Guard(
        "a dead letter goes only when it is published on its topic again",
        f"{LIBRARY}/redrive.py",
        "if id(letter) not in refused]",
        "]",
        (_functional("redrive", "TestRedrive"),),
    ),
)


def table() -> str:
    """The rows of docs/guards.md."""
    rows = []
    for guard in GUARDS:
        tests = ", ".join(f"`{one.rpartition('/')[2].replace('.py', '')}{']' * ('[' in one)}`" for one in guard.tests)
        rows.append(f"| {guard.what} | `{Path(guard.file).relative_to(Path(guard.file).parts[0])}` | {tests} |\n")
    return "".join(rows)


def survives(guard: Guard, tests: str) -> bool:
    """Break a guard, and tell whether tests are green all the same."""
    path = ROOT / guard.file
    whole = path.read_text()
    if whole.count(guard.code) != 1:
        raise SystemExit(f"{guard.file} has {whole.count(guard.code)} times: {guard.code}")
    path.write_text(whole.replace(guard.code, guard.broken))
    try:
        chosen = [tests] if "[" not in tests else _parts(tests)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--timeout", "60", "-p", "no:cacheprovider", *chosen]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        path.write_text(whole)
    if ended.returncode not in {0, 1}:  # neither green nor red: nothing was tested
        raise SystemExit(f"{guard.what}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return ended.returncode == 0


def _parts(tests: str) -> list[str]:
    """The parts that a kind of fault is divided into; pytest wants to be told of each."""
    return [f"{tests}-{part}]" for part in range(4)]


def main(names: list[str]) -> int:
    """Break guards, and return how many nobody missed."""
    missed = 0
    for guard in GUARDS:
        if names and not any(name in guard.what for name in names):
            continue
        for tests in guard.tests:
            survived = survives(guard, tests)
            missed += survived
            print("NOT NOTICED" if survived else "noticed", guard.what, tests, sep=" | ", flush=True)
    return missed


if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        print(table(), end="")
    else:
        sys.exit(main(sys.argv[1:]))
