"""Functions as steps: one entry at a time, rejects, and what is kept without being asked."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parcelq.errors import StepError
from parcelq.steps.data import Given
from parcelq.steps.find import Step, local_step
from parcelq.steps.ran import Ran
from parcelq.steps.rejects import Reject
from parcelq.steps.run import Runner
from parcelq.steps.settings import StepSettings
from step_runs import run_step

HEAD = "import os, sys, time\nfrom parcelq.step import reject, step\n"
TAIL = "\nif __name__ == '__main__':\n    run.main()\n"
NUMBER = """
@step(each=True)
def run(entry):
    return str(int(entry) * 2)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where all temporary folders go; every test leaves it empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def write(make_step):
    """Writes the file of a step around a function."""
    return lambda function: make_step(HEAD + textwrap.dedent(function) + TAIL, "step.py")


@pytest.fixture(params=[None, False], ids=["warm", "cold"])
def run(write, request):
    """Runs a function over bodies, and returns the output and the rejects."""

    def over(function: str, *bodies: bytes, entries: int | None = None) -> tuple[bytes, tuple[Reject, ...]]:
        step = Step(write(function), StepSettings(warm=request.param))
        with run_step(step, bodies, 60, entries=entries) as ran:
            return ran.output.read_bytes(), ran.rejects

    return over


class TestEach:
    def test_an_exception_rejects_its_entry_alone_with_its_place_in_the_output(self, run):
        output, rejects = run(NUMBER, b"1\nx\n2\n", b"3\ny\n", entries=5)
        assert output == b"2\n4\n6\n"
        assert [(one.entry, one.after) for one in rejects] == [(1, 1), (4, 3)]
        first, *more = rejects[0].reason.splitlines()
        assert first == "ValueError: invalid literal for int() with base 10: 'x'"
        assert more == ["  step.py, line 6, in run"]

    def test_the_place_of_an_exception_in_a_library_is_the_line_of_the_step_that_called_the_library(self, run):
        function = """
        import json

        def name_of(entry):
            return json.loads(entry)["name"]

        @step(each=True)
        def run(entry):
            return os.environ[name_of(entry)]
        """
        output, rejects = run(function, b'{"name": "PATH"}\nx\n{"name": "NO_SUCH"}\n', entries=3)
        assert output.count(b"\n") == 1
        assert [one.reason.splitlines()[-1] for one in rejects] == [
            "  step.py, line 7, in name_of",
            "  step.py, line 11, in run",
        ]

    def test_a_function_of_each_entry_may_give_none_or_several(self, run):
        function = """
        @step(each=True)
        def run(entry):
            if entry == "none":
                return None
            if entry == "bad":
                raise KeyError(entry)
            return entry if entry == "one" else [entry, entry.upper()]
        """
        output, rejects = run(function, b"none\ntwo\nbad\none\n\nbad\n")
        assert output == b"two\nTWO\none\n\n\n"
        assert [(one.entry, one.after) for one in rejects] == [(2, 2), (5, 5)]

    def test_a_generator_rejects_the_entry_that_it_fails_on(self, run):
        function = """
        @step(each=True)
        def run(entry):
            yield entry
            yield str(int(entry))
        """
        output, rejects = run(function, b"1\nx\n2\n")
        assert output == b"1\n1\n2\n2\n"
        assert [(one.entry, one.after) for one in rejects] == [(1, 2)]

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("3", "TypeError: a function of one entry must return a str, None or an iterable of str, not 3"),
            ("b'x'", "TypeError: a function of one entry must return a str, None or an iterable of str, not b'x'"),
            (
                "{'a': entry}",
                (
                    "TypeError: a function of one entry must return a str, None or an iterable of str, "
                    "not {'a': 'bad'}; json.dumps makes a str of a dict"
                ),
            ),
            ("{'a'}", "TypeError: a function of one entry must return a str, None or an iterable of str, not {'a'}"),
            ("[1]", "TypeError: an entry must be a str, but 1 is a int"),
            ("'a\\nb'", r"ValueError: an entry is one line without its line end, but 'a\nb' has one"),
        ],
    )
    def test_a_value_that_is_no_entry_rejects_the_entry_it_was_made_of(self, run, value, reason):
        output, rejects = run(
            f"@step(each=True)\ndef run(entry):\n    return {value} if entry == 'bad' else entry\n", b"a\nbad\nb\n"
        )
        assert output == b"a\nb\n"
        assert [(one.entry, one.after, one.reason) for one in rejects] == [(1, 1, reason)]

    def test_an_explicit_reject_has_the_reason_that_is_given(self, run):
        function = """
        @step(each=True)
        def run(entry):
            if entry.startswith("#"):
                reject(entry, "a comment")
            return entry
        """
        output, rejects = run(function, b"a\n#b\nc\n")
        assert (output, rejects) == (b"a\nc\n", (Reject(1, 1, "a comment"),))

    @pytest.mark.parametrize("statement", ["sys.exit(3)", "raise MemoryError", "os._exit(3)"])
    def test_a_failure_that_names_no_entry_fails_the_run(self, write, statement):
        step = Step(write(f"@step(each=True)\ndef run(entry):\n    {statement}\n"), StepSettings())
        with pytest.raises(StepError), run_step(step, [b"a\n"], 60):
            pass

    def test_a_long_reason_is_bounded_and_keeps_its_first_line(self, run):
        function = "@step(each=True)\ndef run(entry):\n    raise ValueError('begins ' + 'ä' * 1_000_000)\n"
        _, (one,) = run(function, b"a\n")
        assert one.reason.startswith("ValueError: begins ä")
        assert len(one.reason.encode()) <= 2048 + 50

    def test_a_step_may_reject_all_its_entries(self, run):
        output, rejects = run("@step(each=True)\ndef run(entry):\n    raise ValueError\n", b"x\n" * 5000)
        assert output == b""
        assert [(one.entry, one.after) for one in rejects] == [(number, 0) for number in range(5000)]

    def test_any_mixture_of_good_and_bad_entries_gives_the_same_as_a_loop(self, write):
        function = """
        @step(each=True)
        def run(entry):
            kind, _, rest = entry.partition(" ")
            if kind == "bad":
                raise ValueError(rest)
            return {"one": entry, "none": None, "two": [entry, rest]}[kind]
        """
        kinds = st.lists(st.sampled_from(["one", "two", "none", "bad"]), max_size=40)
        with contextlib.closing(Runner(Step(write(function), StepSettings()))) as runner:

            @given(kinds, st.sampled_from([1, 300]))
            @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
            def check(names: list[str], times: int) -> None:
                lines = [f"{name} {number}" for number, name in enumerate(names * times)]
                expected: list[str] = []
                bad = []
                for number, line in enumerate(lines):
                    kind, _, rest = line.partition(" ")
                    if kind == "bad":
                        bad.append((number, len(expected)))
                    expected += {"one": [line], "two": [line, rest]}.get(kind, [])
                with runner.run([f"{line}\n".encode() for line in lines], 60, entries=len(lines)) as ran:
                    assert ran.output.read_bytes().decode() == "".join(f"{line}\n" for line in expected)
                    assert [(one.entry, one.after) for one in ran.rejects] == bad

            check()

    def test_a_step_that_is_called_in_a_program_is_its_function(self):
        from parcelq.step import step

        @step(each=True)
        def double(entry: str) -> str:
            return entry * 2

        assert double("a") == "aa"

    def test_a_step_refuses_the_options_raw_and_each_together(self):
        from parcelq.step import step

        with pytest.raises(TypeError, match="not both"):
            step(raw=True, each=True)


class TestLostExceptions:
    """Loops and `map` take an exception StopIteration for their end, and `except` may catch what `reject` raises."""

    @pytest.mark.parametrize("count", [1, 20, 5000])
    @pytest.mark.parametrize("at", [0, 7, 19, 4095, 4096, 4999])
    def test_an_entry_on_which_the_function_raises_stop_iteration_is_rejected_alone(self, run, count, at):
        function = """
        @step(each=True)
        def run(entry):
            return next(iter(entry.split()))
        """
        entries = [b"" if number == at else b"%d" % number for number in range(count)]
        made, rejects = run(function, b"".join(entry + b"\n" for entry in entries))
        assert made.split() == [entry for entry in entries if entry]
        assert [(one.entry, one.after) for one in rejects] == ([(at, at)] if at < count else [])
        assert all(one.reason.startswith("StopIteration: next() found nothing") for one in rejects)

    @pytest.mark.parametrize("caught", ["Exception", "ValueError"])
    def test_a_reject_holds_although_the_function_catches_exceptions(self, run, caught):
        function = f"""
        @step(each=True)
        def run(entry):
            try:
                if entry == "-2":
                    reject(entry, "negative")
            except {caught}:
                return "caught"
            return entry
        """
        made, rejects = run(function, b"1\n-2\n3\n")
        assert (made, [(one.entry, one.reason) for one in rejects]) == (b"1\n3\n", [(1, "negative")])

    @pytest.mark.parametrize("catches", ["except BaseException", "except"])
    def test_a_function_that_catches_what_reject_raises_fails_its_run(self, run, catches):
        function = f"""
        @step(each=True)
        def run(entry):
            try:
                reject(entry, "never")
            {catches}:
                return entry
        """
        with pytest.raises(StepError) as error:
            run(function, b"1\n2\n")
        assert "run must not catch the exception that reject() raises" in error.value.stderr_tail

    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_an_iterator_that_ends_with_stop_iteration_of_a_function_fails_its_run(self, run, at):
        function = """
        @step
        def run(entries):
            return map(lambda entry: next(iter(entry.split())), entries)
        """
        data = b"".join(b"\n" if number == at else b"a\n" for number in range(3))
        with pytest.raises(StepError) as error:
            run(function, data)
        assert "StopIteration" in error.value.stderr_tail

    def test_an_iterator_of_a_class_may_end_in_its_own_way(self, run):
        function = """
        class Upper:
            def __init__(self, entries):
                self.entries = entries
            def __iter__(self):
                return self
            def __next__(self):
                return next(self.entries).upper()
        @step
        def run(entries):
            return Upper(entries)
        """
        assert run(function, b"a\nb\n") == (b"A\nB\n", ())

    @pytest.mark.parametrize("made", ["[]", "[next(entries)]"])
    def test_a_function_that_leaves_entries_unread_fails_its_run(self, run, made):
        function = f"""
        @step
        def run(entries):
            return {made}
        """
        with pytest.raises(StepError) as error:
            run(function, b"a\nb\nc\n")
        assert "of 3 entries, but must read all" in error.value.stderr_tail


class TestReject:
    def test_a_generator_that_rejects_names_the_entry_it_has_taken(self, run):
        function = """
        @step
        def run(entries):
            for entry in entries:
                if entry == "bad":
                    reject(entry, "no good")
                else:
                    yield entry
        """
        output, rejects = run(function, b"a\nbad\nb\nbad\n", entries=4)
        assert (output, rejects) == (b"a\nb\n", (Reject(1, 1, "no good"), Reject(3, 2, "no good")))

    def test_entries_that_were_taken_together_do_not_say_what_came_before_them(self, run):
        function = """
        @step
        def run(entries):
            batch = list(entries)
            for number in (2, 0):
                reject(number, "odd")
            reject("b", "by its text")
            return [entry for entry in batch if entry == "d"]
        """
        output, rejects = run(function, b"a\nb\nc\nd\n")
        assert output == b"d\n"
        assert rejects == (Reject(0, None, "odd"), Reject(1, None, "by its text"), Reject(2, None, "odd"))

    @pytest.mark.parametrize(
        ("call", "reason"),
        [
            ("reject('none', 'x')", "ValueError: reject: 'none' is not an entry of the input"),
            ("reject(7, 'x')", "ValueError: reject: there is no entry 7; the input has 1, counted from 0"),
            ("reject(0, ' ')", "ValueError: reject: the reason is ' ', but must be a text that says what is wrong"),
        ],
    )
    def test_a_reject_that_cannot_be_fails_the_run(self, write, call, reason):
        step = Step(write(f"@step\ndef run(entries):\n    list(entries)\n    {call}\n    return []\n"), StepSettings())
        with pytest.raises(StepError) as caught, run_step(step, [b"a\n"], 60):
            pass
        assert caught.value.stderr_tail.startswith(reason)

    def test_a_reject_outside_a_run_is_an_error(self):
        from parcelq.step import reject

        with pytest.raises(RuntimeError, match="runs as a step"):
            reject("a", "x")


class TestRejectsOfAnyProgram:
    @pytest.fixture
    def rejecting(self, make_step):
        """Runs a shell script that gets `--rejects`, and writes these lines there."""

        def over(*lines: object, exit_code: int = 0, entries: int | None = 3) -> Ran:
            text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
            step = make_step(f'> "$4"\ncat > "$6" <<"END"\n{text}\nEND\nexit {exit_code}')
            with run_step(Step(step, StepSettings(rejects=True)), [b"a\nb\nc\n"], 60, entries=entries) as ran:
                return ran

        return over

    def test_the_file_of_rejects_of_any_program_names_entries(self, rejecting):
        ran = rejecting({"entry": 2, "after": 1, "reason": "two"}, {"entry": 0, "reason": "zero"})
        assert ran.rejects == (Reject(0, None, "zero"), Reject(2, 1, "two"))

    @pytest.mark.parametrize(
        ("lines", "problem"),
        [
            (["nonsense"], "line 1 of the rejects: 'nonsense' is not JSON"),
            (["[" * 100_000], "is not JSON"),
            ([[1]], "must be an object like"),
            ([{"entry": 0}], "must be an object like"),
            ([{"entry": 0, "reason": "x", "more": 1}], "must be an object like"),
            ([{"entry": 3, "reason": "x"}], "entry is 3, but must be a whole number from 0 below 3"),
            ([{"entry": -1, "reason": "x"}], "entry is -1"),
            ([{"entry": 1.0, "reason": "x"}], "entry is 1.0"),
            ([{"entry": True, "reason": "x"}], "entry is True"),
            (['{"entry": Infinity, "reason": "x"}'], "entry is inf"),
            ([{"entry": 0, "after": -1, "reason": "x"}], "after is -1"),
            ([{"entry": 0, "after": "1", "reason": "x"}], "after is '1'"),
            ([{"entry": 0, "reason": ""}], "reason is ''"),
            ([{"entry": 0, "reason": None}], "reason is None"),
            ([{"entry": 0, "reason": "x"}] * 2, "line 2 of the rejects: entry 0 is reported twice"),
            (
                [{"entry": 0, "after": 5, "reason": "x"}, {"entry": 1, "after": 4, "reason": "x"}],
                "4 entries of output before entry 1, but 5 before entry 0",
            ),
        ],
    )
    def test_an_impossible_line_in_the_file_of_rejects_fails_the_run(self, rejecting, lines, problem):
        with pytest.raises(StepError) as caught:
            rejecting(*lines)
        assert "reported invalid rejects" in caught.value.reason
        assert problem in caught.value.reason
        assert len(caught.value.reason) < 400

    def test_a_run_that_fails_rejects_no_single_entry(self, rejecting):
        with pytest.raises(StepError) as caught:
            rejecting({"entry": 0, "reason": "x"}, exit_code=3)
        assert caught.value.exit_code == 3

    @pytest.mark.parametrize("make", ['mkdir "$6"', 'mkfifo "$6"', 'ln -s /etc/passwd "$6"'])
    def test_a_file_of_rejects_that_is_no_file_fails_the_run(self, make_step, make):
        step = Step(make_step(f'> "$4"; {make}'), StepSettings(rejects=True))
        with pytest.raises(StepError, match="reported invalid rejects"), run_step(step, [], 60):
            pass

    def test_a_step_that_does_not_ask_does_not_get_the_option(self, make_step):
        with run_step(Step(make_step('echo "$@" > "$4"'), StepSettings()), [], 60) as ran:
            assert b"--rejects" not in ran.output.read_bytes()


class TestWarmWithoutBeingAsked:
    PID = "\n@step\ndef run(entries):\n    yield str(os.getpid())\n"

    def pids(self, step: Step) -> set[bytes]:
        found = set()
        with contextlib.closing(Runner(step)) as runner:
            for _ in range(3):
                with runner.run([], 60) as ran:
                    found.add(ran.output.read_bytes())
        return found

    def test_a_python_function_is_kept_warm_without_being_asked(self, write):
        assert len(self.pids(Step(write(self.PID), StepSettings()))) == 1

    def test_the_setting_warm_with_false_gives_each_run_its_own_process(self, write):
        assert len(self.pids(Step(write(self.PID), StepSettings(warm=False)))) == 3

    @pytest.mark.parametrize(
        "program",
        [
            # argparse, without the library
            """
            import argparse, os
            parser = argparse.ArgumentParser()
            for name in ("--input", "--output", "--workflow-id"):
                parser.add_argument(name, required=True)
            open(parser.parse_args().output, "w").write(str(os.getpid()))
            """,
            # argparse, with a function of the library in it that does not run by itself
            """
            import argparse, os
            from parcelq.step import step
            def main():
                parser = argparse.ArgumentParser()
                for name in ("--input", "--output", "--workflow-id", "--rejects"):
                    parser.add_argument(name, required=True)
                open(parser.parse_args().output, "w").write(str(os.getpid()))
            class Program:
                main = staticmethod(main)
            Program.main()
            """,
            # the library is only spoken of
            '''
            """from parcelq.step import step; run.main()"""
            import os, sys
            open(sys.argv[sys.argv.index("--output") + 1], "w").write(str(os.getpid()))
            ''',
        ],
    )
    def test_a_program_that_is_no_function_gets_a_process_a_run(self, make_step, program):
        step = Step(make_step(textwrap.dedent(program), "step.py"), StepSettings())
        assert len(self.pids(step)) == 3

    def test_a_file_that_cannot_be_imported_says_why(self, write):
        step = Step(write("import nowhere\n" + self.PID), StepSettings())
        with pytest.raises(StepError) as caught, run_step(step, [b"a\n"], 60):
            pass
        assert caught.value.stderr_tail.startswith("ModuleNotFoundError: No module named 'nowhere'\n")


def test_a_caller_that_can_do_nothing_with_rejects_gets_an_error(write):
    step = Step(write(NUMBER), StepSettings())
    with run_step(step, [b"1\n"], 60) as ran:
        assert ran.whole(step) == ran.output
    with run_step(step, [b"1\nx\n"], 60) as ran, pytest.raises(StepError, match="rejected entry 1: ValueError"):
        ran.whole(step)


class TestByHand:
    def test_a_step_that_is_run_by_hand_prints_its_rejects_and_writes_the_others(self, write):
        done = subprocess.run(
            [sys.executable, write(NUMBER)], input="1\nx\n2\n", capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, "2\n4\n")
        assert done.stderr.startswith("entry 1: ValueError: invalid literal")


class TestCopies:
    def test_a_file_runs_from_a_copy_alone_and_is_named_by_its_own_path(self, tmp_path):
        (tmp_path / "helper.py").write_text("")
        path = tmp_path / "score.py"
        path.write_text("import sys\nsys.stderr.write(__file__)\nimport helper\n")
        with pytest.raises(StepError) as caught, run_step(local_step(str(path)), [], 60):
            pass
        assert "No module named 'helper'" in str(caught.value)
        assert f'File "{path}", line 3' in str(caught.value)

    def test_a_change_of_the_file_does_not_reach_a_runner(self, tmp_path):
        path = tmp_path / "step"
        path.write_text("#!/bin/sh\necho one > $4\n")
        path.chmod(0o755)
        with contextlib.closing(Runner(local_step(str(path)))) as runner:
            for _ in range(2):
                with runner.run([], 60) as ran:
                    assert ran.output.read_bytes() == b"one\n"
                path.write_text("#!/bin/sh\necho two > $4\n")

    def test_a_copy_of_a_folder_has_all_its_files_and_its_settings(self, tmp_path):
        home = tmp_path / "score"
        home.mkdir()
        (home / "helper.py").write_text("WORD = 'helped'\n")
        (home / "step.py").write_text("import sys, helper\nopen(sys.argv[5], 'w').write(helper.WORD)\n")
        (home / "settings.yaml").write_text("arguments: [-v]\n")
        step = local_step(str(home))
        assert step.settings.arguments == ("-v",)
        with run_step(step, [], 60) as ran:
            assert ran.output.read_bytes() == b"helped"


class TestVersion:
    def test_the_version_of_a_step_follows_from_its_file_its_settings_and_its_lock(self, tmp_path):
        def step(text: str = "a", name: str = "s.py", lock: str = "", **more: object) -> Step:
            (tmp_path / name).write_text(text)
            return Step(tmp_path / name, StepSettings(**more), lock=lock)

        versions = [
            step().version,
            step("b").version,
            step(timeout=3.0).version,
            step(step={"a": 1}).version,
            step(lock="six==1").version,
            step(name="t.py").version,
        ]
        assert len(set(versions)) == len(versions)
        assert step().version == versions[0]
        assert step(path=Path("/anywhere/settings.yaml")).version == versions[0]

    def test_a_run_that_is_aborted_leaves_no_folder_behind(self, make_step, tmp_path, folder):
        runner = Runner(Step(make_step(f"touch {tmp_path}/began; sleep 600")))
        with ThreadPoolExecutor(1) as pool, contextlib.closing(runner):
            run = pool.submit(runner.run_all, [Given([b"1\n"])])
            while not (tmp_path / "began").exists():
                time.sleep(0.01)
            runner.abort()
            assert [str(one) for one in run.result()] == ["step 'step' was aborted"]
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("name", ["json.py", "parcelq.py", "typing.py", "select.py"])
    def test_a_step_that_is_a_file_may_have_the_name_of_any_module(self, make_step, name):
        path = make_step(HEAD + NUMBER + TAIL, name)
        with run_step(local_step(str(path)), [b"4\n"], 60) as ran:
            assert ran.output.read_bytes() == b"8\n"

    def test_every_file_of_a_folder_counts_for_the_version_of_a_step(self, tmp_path):
        home = tmp_path / "score"
        home.mkdir()
        (home / "step.py").write_text("")
        before = local_step(str(home)).version
        (home / "data.txt").write_text("1")
        after = local_step(str(home)).version
        assert before != after
        (home / "__pycache__").mkdir()
        (home / "__pycache__" / "x.pyc").write_text("1")
        assert local_step(str(home)).version == after


def test_text_that_a_step_prints_is_there_when_it_succeeds(make_step):
    with run_step(Step(make_step('echo out; echo err >&2; > "$4"')), [], 60) as ran:
        assert (ran.stdout_tail, ran.stderr_tail) == ("out\n", "err\n")
        assert ran.memory_bytes > 0
