"""workflow.yaml: what it says, everything that can be wrong with it at once, and what belongs to a workflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from parcelq.errors import InvalidValueError, JobError, SettingsError
from parcelq.jobs.assembled import check_number, from_folder, from_steps, with_options
from parcelq.jobs.limits import Limits
from parcelq.jobs.workflow import Workflow, WorkflowStep, workflow_name
from parcelq.jobs.workflow_file import read_workflow, steps_of, workflow_of
from parcelq.records import parse

STEP = "import sys\n"
TEN_MISTAKES = """
formt: csv
format: cvs
parcel_size: 0
batch_size: true
limits: {max_dead: lots, max_secs: 3}
steps:
  - run: ../x.py
    batch_size: 1.5
    packages: rdkit
  - stage: a-b
  - 7
"""


@pytest.fixture
def folder(tmp_path):
    def make(text: str, **files: str) -> Path:
        made = tmp_path / "Score"
        made.mkdir(exist_ok=True)
        (made / "workflow.yaml").write_text(text)
        (made / "score.py").write_text(STEP)
        for name, content in files.items():
            (made / name.replace("_", ".")).write_text(content)
        return made

    return make


def problems_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read_workflow(folder)
    return caught.value.problems


def test_a_wrong_format_is_one_mistake_that_names_its_key(folder):
    (problem,) = problems_of(folder("output: 9\nsteps: [{run: score.py}]\n"))
    assert problem.startswith("output is 9, but must be lines, jsonl, csv")
    assert "format is" not in problem
    (problem,) = problems_of(folder("output: {lines: 0}\nsteps: [{run: score.py}]\n"))
    assert problem.endswith("must be a record format; lines is 0, but must be a whole number from 1 to 1000")


def test_every_key_of_a_workflow_that_the_page_documents_is_read(folder):
    workflow = read_workflow(
        folder(
            """
            format: csv
            output: jsonl
            parcel_size: 500
            batch_size: 50
            limits: {max_dead: 1.5%, max_seconds: 3600}
            steps:
              - {run: score.py, settings: own.yaml, packages: [six], batch_size: 7, stage: heavy}
              - run: cat
            """,
            own_yaml="timeout: 3",
        )
    )
    assert workflow == Workflow(
        (WorkflowStep("score.py", "own.yaml", ("six",), 7, "heavy"), WorkflowStep("cat", output=parse("jsonl"))),
        parse("csv"),
        500,
        50,
        Limits(max_dead_share=0.015, max_seconds=3600),
    )
    assert [workflow.batch_size_of(one, 1000) for one in workflow.steps] == [7, 50]


def test_a_workflow_is_the_same_after_it_was_stored(folder):
    text = "limits: {max_dead: 0.1%}\nsteps: [{run: score.py, output: {ends: '//'}}, {run: cat, stage: b}]\n"
    workflow = read_workflow(folder(text))
    assert workflow_of(workflow.to_document(), "it") == workflow


def test_ten_mistakes_in_a_workflow_are_named_at_once(folder):
    found = "\n".join(problems_of(folder(TEN_MISTAKES)))
    for name in ("'formt'", "'cvs'", "parcel_size", "batch_size is True", "'lots'", "'max_secs'", "'../x.py'"):
        assert name in found
    for name in (
        "steps[0]: batch_size is 1.5",
        "steps[0]: packages",
        "steps[1]: run is not set",
        "'a-b'",
        "steps[2] is 7",
    ):
        assert name in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it must be a mapping of keys to values, not None"),
        ("[]", "it must be a mapping of keys to values, not []"),
        ("steps: []", "steps is [], but must be a list of 1 to 16 steps"),
        ("steps: score.py", "steps is 'score.py', but must be a list of 1 to 16 steps"),
        ("steps: [{run: score.py}]\nlimits: 3", "limits is 3, but must be a mapping of keys to values"),
        ("steps: [{run: score.py}]\nlimits: {max_dead: 101%}", "limits: max_dead is '101%', but must be a number"),
        ("steps: [{run: score.py}]\nsteps: [{run: score.py}]", "steps is given twice, in lines 1 and 2"),
        ("steps: [{run: nowhere.py}]", "steps[0]: path 'nowhere.py': there is no such file"),
        ("steps: [{run: score.py, settings: no.yaml}]", "steps[0]: path 'no.yaml': there is no such file"),
        ("steps: [{run: score.py}, {run: /bin/cat}]", "steps[1]: path '/bin/cat': it is outside the folders"),
        ("steps: [{run: no-such-program-anywhere}]", "steps[0]: path 'no-such-program-anywhere': there is no such"),
    ],
)
def test_a_mistake_in_a_workflow_is_named_with_its_value(folder, text, problem):
    assert problems_of(folder(text))[0].startswith(problem)


def test_mistakes_in_settings_are_mistakes_of_the_workflow(folder):
    (problem,) = problems_of(folder("steps: [{run: score.py, settings: own.yaml}]", own_yaml="tiemout: 3"))
    assert "unknown key 'tiemout'" in problem


def test_a_folder_without_a_workflow_says_so(tmp_path):
    assert problems_of(tmp_path) == ("the folder has no workflow.yaml",)
    (tmp_path / "workflow.yaml").touch()
    assert problems_of(tmp_path / "workflow.yaml") == ("it is a file; name the folder that has workflow.yaml",)


def test_a_folder_that_cannot_be_looked_up_is_a_mistake_of_the_workflow(tmp_path):
    assert len(problems_of(tmp_path / ("x" * 300))) == 1


def test_a_stage_follows_from_the_step_before():
    workflow = Workflow((WorkflowStep("a"), WorkflowStep("b", stage="heavy"), WorkflowStep("c")))
    assert workflow.stages(["light", "heavy"]) == ("light", "heavy", "heavy")
    with pytest.raises(SettingsError, match="stage is 'heavy', but must be one of light"):
        workflow.stages(["light"])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Score_v2.py", "score-v2"),
        ("2d.sh", "step-2d"),
        ("ümlaut.", "mlaut"),
        ("...", "step"),
        ("a" * 60 + ".x", "a" * 40),
    ],
)
def test_a_workflow_is_named_after_its_step(text, name):
    assert workflow_name(text) == name


@pytest.mark.parametrize("name", ["", "A", "a_b", "a/b", "-a", "a-", "a@b", "a" * 41, "é"])
def test_a_name_that_no_workflow_can_have_is_refused(name):
    with pytest.raises(InvalidValueError, match="name of a workflow"):
        workflow_name("x.", name or " ")


class TestAssembling:
    def test_all_files_of_a_folder_belong_to_it_but_hidden_ones_and_bytecode(self, folder):
        made = folder("steps: [{run: score.py}]", helper_py="x = 1")
        (made / "data").mkdir()
        (made / "data/table.csv").write_text("1")
        for name in (".git/HEAD", "__pycache__/score.pyc", "data/.DS_Store"):
            (made / name).parent.mkdir(exist_ok=True)
            (made / name).write_text("")
        assembled = from_folder(made)
        assert assembled.name == "score"
        assert sorted(assembled.files) == ["data/table.csv", "helper.py", "score.py", "workflow.yaml"]

    def test_folders_of_results_do_not_belong_to_a_workflow(self, folder):
        made = folder("steps: [{run: score.py}]")
        for name in ("results/x", "results/x.report.json", "stopped/x.steps.log", "stopped/.parcelq/lock", "data/x"):
            (made / name).parent.mkdir(exist_ok=True)
            (made / name).mkdir() if name.endswith("lock") else (made / name).write_text("")
        assert sorted(from_folder(made).files) == ["data/x", "score.py", "workflow.yaml"]

    def test_a_link_out_of_the_folder_is_refused(self, folder, tmp_path):
        made = folder("steps: [{run: score.py}]")
        (tmp_path / "secret").write_text("")
        (made / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(SettingsError, match="link is a link to a place outside the folder"):
            from_folder(made)

    def test_steps_of_a_command_get_a_folder_each(self, tmp_path, folder):
        made = folder("")
        (tmp_path / "weigh").mkdir()
        (tmp_path / "weigh/step.py").write_text(STEP)
        (tmp_path / "weigh/settings.yaml").write_text("timeout: 3")
        (tmp_path / "own.yaml").write_text("timeout: 4")
        paths = [str(made / "score.py"), str(tmp_path / "weigh"), "cat"]
        assembled = from_steps(paths, [str(tmp_path / "own.yaml"), "", ""], ["six"])
        assert assembled.name == "score-weigh-cat"
        assert sorted(assembled.files) == ["step1.yaml", "step1/score.py", "step2/settings.yaml", "step2/step.py"]
        assert [one.run for one in assembled.workflow.steps] == ["step1/score.py", "step2", "cat"]
        assert [one.packages for one in assembled.workflow.steps] == [("six",), ("six",), ()]

        unpacked = tmp_path / "unpacked"
        for name, path in assembled.files.items():
            (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / name).write_bytes(path.read_bytes())
        steps = steps_of(assembled.workflow, unpacked)
        assert [one.settings.timeout for one in steps] == [4, 3, None]
        assert [one.path.name for one in steps] == ["score.py", "step.py", "cat"]

    def test_options_of_a_command_overrule_what_the_workflow_says(self, folder):
        text = "format: csv\nlimits: {max_dead: 3, max_seconds: 9}\nsteps: [{run: score.py, batch_size: 7}]\n"
        assembled = from_folder(folder(text))
        options = Workflow((), parse("tsv"), None, 50, Limits(max_dead_share=0.5))
        workflow = with_options(assembled, options).workflow
        assert (workflow.format, workflow.batch_size_of(workflow.steps[0], 1)) == (parse("tsv"), 50)
        assert workflow.limits == Limits(max_dead_share=0.5, max_seconds=9)


def test_steps_replace_the_steps_of_a_job_only_if_there_are_as_many() -> None:
    check_number("job", ["a", "b"], ["c", "d"])
    with pytest.raises(JobError, match="it has 2 steps, but 1 step was given; give one for each step of the job"):
        check_number("job", ["a"], ["c", "d"])
    with pytest.raises(JobError, match="it has 1 step, but 2 steps were given"):
        check_number("job", ["a", "b"], ["c"])
