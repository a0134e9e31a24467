"""Finding steps: on one's own machine any path; deployed, nothing outside of the folders for steps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from parcelq.errors import SettingsError
from parcelq.steps.find import Step, deployed_step, local_step
from parcelq.steps.settings import StepSettings


@pytest.fixture
def steps(tmp_path) -> Path:
    folder = tmp_path / "steps"
    folder.mkdir()
    return folder


def program(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


class TestCommand:
    def test_a_step_gets_its_files_its_workflow_and_its_settings(self):
        step = Step(Path("/s/tool"), StepSettings(arguments=("-v", "x"), path=Path("/s/settings.yaml")), "wf-1")
        assert step.command(Path("/t/in"), Path("/t/out")) == [
            *("/s/tool", "-v", "x", "--input", "/t/in", "--output", "/t/out"),
            *("--workflow-id", "wf-1", "--settings", "/s/settings.yaml"),
        ]

    def test_without_a_settings_file_the_step_gets_no_settings_option(self):
        command = Step(Path("/s/tool")).command(Path("/t/in"), Path("/t/out"))
        assert command == ["/s/tool", "--input", "/t/in", "--output", "/t/out", "--workflow-id", ""]

    def test_a_filter_gets_only_the_arguments_of_its_settings(self):
        step = Step(Path("/usr/bin/tr"), StepSettings(filter=True, arguments=("a-z", "A-Z"), path=Path("/s.yaml")), "w")
        assert step.command(Path("/t/in"), Path("/t/out")) == ["/usr/bin/tr", "a-z", "A-Z"]

    def test_a_python_step_runs_on_the_current_interpreter(self):
        command = Step(Path("/s/step.py")).command(Path("/t/in"), Path("/t/out"))
        assert command[:2] == [sys.executable, "/s/step.py"]

    @pytest.mark.parametrize(("version", "options"), [("3.10", []), ("3.11", ["-P"]), ("3.14", ["-P"])])
    def test_only_an_interpreter_that_knows_the_option_leaves_out_the_folder_of_a_copied_step(
        self, tmp_path, version, options
    ):
        (tmp_path / f"lib/python{version}").mkdir(parents=True)
        step = Step(Path("/s/step.py"), StepSettings(filter=True), python=tmp_path / "bin/python")
        assert step.command(Path("/i"), Path("/o")) == [f"{tmp_path}/bin/python", "/s/step.py"]
        copied = step._replace(copied=True).command(Path("/i"), Path("/o"))
        assert copied == [f"{tmp_path}/bin/python", *options, "/s/step.py"]


class TestLocalStep:
    def test_a_step_may_be_given_by_any_path(self, tmp_path):
        path = program(tmp_path / "anywhere" / "tool")
        assert local_step(str(path), workflow_id="wf") == Step(path, StepSettings(), "wf", copied=True)

    def test_a_relative_path_and_a_name_in_the_working_directory_become_absolute(self, tmp_path, monkeypatch):
        path = program(tmp_path / "tool")
        monkeypatch.chdir(tmp_path)
        assert local_step("./tool").path == path
        assert local_step("tool").path == path

    def test_the_home_directory_in_a_path_of_a_step_is_filled_in(self, tmp_path, monkeypatch):
        path = program(tmp_path / "tool")
        (tmp_path / "s.yaml").write_text("filter: true")
        monkeypatch.setenv("HOME", str(tmp_path))
        step = local_step("~/tool", "~/s.yaml")
        assert (step.path, step.settings.filter) == (path, True)

    def test_the_home_directory_of_an_unknown_user_is_not_there(self):
        with pytest.raises(SettingsError, match="~no-such-user/step: there is no such file"):
            local_step("~no-such-user/step")
        with pytest.raises(SettingsError, match="~no-such-user/settings"):
            local_step("cat", "~no-such-user/settings.yaml")

    def test_a_plain_name_is_a_program_on_the_path(self, tmp_path, monkeypatch):
        path = program(tmp_path / "bin" / "some-tool")
        monkeypatch.setenv("PATH", str(path.parent))
        assert local_step("some-tool").path == path

    def test_a_program_keeps_the_name_that_it_is_called_by(self, tmp_path, monkeypatch):
        program(tmp_path / "busybox")
        (tmp_path / "tr").symlink_to(tmp_path / "busybox")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert local_step("tr").path == tmp_path / "tr"

    @pytest.mark.parametrize(
        ("text", "arguments"),
        [
            ("tool", ()),
            ("tool a-z A-Z", ("a-z", "A-Z")),
            ("""tool '{ print $1 }' "two words" x\\ y""", ("{ print $1 }", "two words", "x y")),
        ],
    )
    def test_a_command_is_a_filter_with_its_arguments(self, tmp_path, monkeypatch, text, arguments):
        path = program(tmp_path / "bin" / "tool")
        monkeypatch.setenv("PATH", str(path.parent))
        step = local_step(text)
        assert (step.path, step.settings.filter, step.settings.arguments) == (path, True, arguments)

    def test_settings_say_how_a_command_is_run(self, tmp_path, monkeypatch):
        path = program(tmp_path / "bin" / "tool")
        monkeypatch.setenv("PATH", str(path.parent))
        settings = tmp_path / "s.yaml"
        settings.write_text("timeout: 5")
        assert local_step("tool", str(settings)).settings.filter is False
        with pytest.raises(SettingsError, match=r"with settings, its arguments must be in .*s\.yaml"):
            local_step("tool -v", str(settings))

    def test_a_folder_without_a_step_is_refused_and_a_program_of_its_name_is_mentioned(self, tmp_path, monkeypatch):
        tool = program(tmp_path / "bin" / "tool")
        monkeypatch.setenv("PATH", str(tool.parent))
        monkeypatch.chdir(tmp_path)
        for name, hint in (("tool", f"; to run the program of the same name, write {tool}"), ("other", "")):
            (tmp_path / name).mkdir()
            with pytest.raises(SettingsError) as caught:
                local_step(name)
            assert str(caught.value).endswith(f"the folder has no file step (or step.py, …){hint}")

    def test_a_file_goes_before_a_command_of_the_same_name(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(program(tmp_path / "bin" / "tool x").parent))
        program(tmp_path / "bin" / "tool")
        here = program(tmp_path / "tool x")
        monkeypatch.chdir(tmp_path)
        assert local_step("tool x").path == here

    @pytest.mark.parametrize("path", ["", "no-such-tool-anywhere", "./none", "no-such-tool x", "'open", " "])
    def test_a_local_step_that_is_not_there_is_refused(self, path):
        with pytest.raises(SettingsError, match="there is no such file"):
            local_step(path)

    def test_a_local_step_that_is_not_executable_is_refused_unless_it_is_python(self, tmp_path):
        with pytest.raises(SettingsError, match=r"not executable; chmod \+x"):
            local_step(str(program(tmp_path / "tool.sh", 0o644)))
        assert local_step(str(program(tmp_path / "tool.py", 0o644))).path == tmp_path / "tool.py"

    @pytest.mark.parametrize(
        ("head", "problem"),
        [
            (b"#!/nowhere/sh -e\necho", r"names the interpreter '/nowhere/sh', which does not exist"),
            (b"#!\n", r"names the interpreter '', which does not exist"),
            (b"echo one\n", r"a first line that names its interpreter, such as #!/bin/sh"),
            (b"", r"a first line that names its interpreter"),
            (b"\x7fELF\2\1\1" + bytes(11) + b"\x08\0" + bytes(40), r"built for another processor"),
        ],
    )
    def test_a_local_step_that_the_system_would_not_start_is_refused(self, tmp_path, head, problem):
        program(tmp_path / "tool").write_bytes(head)
        with pytest.raises(SettingsError, match=problem):
            local_step(str(tmp_path / "tool"))

    @pytest.mark.parametrize("name", ["sh", "awk", "true", sys.executable])
    def test_a_local_step_that_the_system_starts_is_accepted(self, name):
        assert local_step(name)

    def test_a_local_step_with_bad_settings_is_refused(self, tmp_path):
        (tmp_path / "s.yaml").write_text("nonsense: 1")
        with pytest.raises(SettingsError, match="nonsense"):
            local_step(str(program(tmp_path / "tool")), str(tmp_path / "s.yaml"))


class TestDeployedStep:
    @pytest.mark.parametrize("name", ["step", "step.py", "step.sh"])
    def test_a_stages_step_is_the_one_in_its_folder(self, steps, name):
        path = program(steps / "clean" / name)
        assert deployed_step([steps], "clean", workflow_id="wf") == Step(path, StepSettings(), "wf")

    @pytest.mark.parametrize("name", ["settings.yaml", "settings.yml"])
    def test_a_deployed_step_has_the_settings_that_lie_beside_it(self, steps, name):
        program(steps / "clean" / "step")
        (steps / "clean" / name).write_text("timeout: 7")
        settings = deployed_step([steps], "clean").settings
        assert (settings.timeout, settings.path) == (7.0, steps / "clean" / name)

    def test_folders_of_deployed_steps_are_searched_in_order(self, steps, tmp_path):
        other = tmp_path / "opt" / "steps"
        in_layer = program(other / "clean" / "step")
        assert deployed_step([steps, tmp_path / "none", other], "clean").path == in_layer
        in_function = program(steps / "clean" / "step")
        assert deployed_step([steps, other], "clean").path == in_function

    def test_a_folder_of_deployed_steps_may_be_a_relative_path(self, steps, tmp_path, monkeypatch):
        path = program(steps / "clean" / "step")
        (steps / "clean" / "settings.yaml").write_text("timeout: 7")
        monkeypatch.chdir(tmp_path)
        step = deployed_step([Path("./steps")], "clean")
        assert (step.path, step.settings.timeout) == (path, 7.0)
        assert deployed_step([Path("steps")], "clean", "clean/step").path == path

    def test_several_steps_in_a_stages_folder_are_refused(self, steps):
        for name in ("step", "step.py"):
            program(steps / "clean" / name)
        with pytest.raises(SettingsError, match=r"must have one step, but has step, step\.py"):
            deployed_step([steps], "clean")

    def test_other_files_in_the_folder_of_a_stage_are_no_steps(self, steps):
        for name in ("steps.txt", "stepping", "my-step", "step.tar.gz"):
            program(steps / "clean" / name)
        (steps / "clean" / "step").mkdir()
        with pytest.raises(SettingsError, match=r"there must be .*clean/step"):
            deployed_step([steps], "clean")

    def test_a_path_below_a_folder_is_found_in_the_first_that_has_it(self, steps, tmp_path):
        path = program(tmp_path / "opt" / "tools" / "dock.sh")
        step = deployed_step([steps, tmp_path / "opt"], "clean", "tools/dock.sh")
        assert step.path == path
        assert deployed_step([steps, tmp_path / "opt"], "clean", str(path)).path == path

    def test_a_path_brings_no_settings_with_it_but_those_that_are_named(self, steps):
        program(steps / "a" / "dock")
        (steps / "a" / "settings.yaml").write_text("timeout: 7")
        assert deployed_step([steps], "", "a/dock").settings == StepSettings()
        assert deployed_step([steps], "", "a/dock", "a/settings.yaml").settings.timeout == 7

    @pytest.mark.parametrize(
        "path", ["../outside", "a/../../outside", "../steps-evil/tool", "{root}/outside", "/bin/sh"]
    )
    def test_a_path_that_leaves_the_folders_is_refused(self, steps, tmp_path, path):
        program(tmp_path / "outside")
        program(tmp_path / "steps-evil" / "tool")
        program(steps / "a" / "tool")
        for where in (
            {"path": path.format(root=tmp_path)},
            {"path": "a/tool", "settings_file": path.format(root=tmp_path)},
        ):
            with pytest.raises(SettingsError, match="is outside the folders"):
                deployed_step([steps], "clean", **where)

    def test_a_stage_that_leaves_the_folders_is_refused(self, steps, tmp_path):
        program(tmp_path / "outside" / "step")
        with pytest.raises(SettingsError, match="is outside the folders"):
            deployed_step([steps], "../outside")

    def test_links_to_deployed_steps_are_followed_and_must_not_lead_out(self, steps, tmp_path):
        secret = program(tmp_path / "secret")
        (steps / "clean").mkdir()
        (steps / "clean" / "step").symlink_to(secret)
        (steps / "way-out").symlink_to(tmp_path)
        for where in ({"stage": "clean"}, {"stage": "", "path": "clean/step"}, {"stage": "", "path": "way-out/secret"}):
            with pytest.raises(SettingsError, match="is outside the folders"):
                deployed_step([steps], **where)

    def test_settings_that_lead_out_are_refused_too(self, steps, tmp_path):
        program(steps / "clean" / "step")
        (tmp_path / "secret.yaml").write_text("timeout: 1")
        (steps / "clean" / "settings.yaml").symlink_to(tmp_path / "secret.yaml")
        with pytest.raises(SettingsError, match="is outside the folders"):
            deployed_step([steps], "clean")

    def test_a_link_within_the_folders_is_a_step_with_the_settings_of_its_own_stage(self, steps):
        program(steps / "shared" / "tool")
        (steps / "clean").mkdir()
        (steps / "clean" / "step").symlink_to(steps / "shared" / "tool")
        (steps / "clean" / "settings.yaml").write_text("timeout: 7")
        step = deployed_step([steps], "clean")
        assert (step.path, step.settings.timeout) == (steps / "clean" / "step", 7.0)

    def test_a_folder_of_deployed_steps_may_itself_be_a_link(self, steps, tmp_path):
        program(steps / "clean" / "step")
        (tmp_path / "link").symlink_to(steps)
        assert deployed_step([tmp_path / "link"], "clean").name == "step"

    @pytest.mark.parametrize("path", ["none", "clean", ""])
    def test_a_deployed_step_that_is_not_there_or_no_file_is_refused(self, steps, path):
        (steps / "clean").mkdir()
        with pytest.raises(SettingsError, match=r"there is no such file|there must be"):
            deployed_step([steps], "clean", path)

    def test_a_deployed_step_that_is_not_executable_is_refused(self, steps):
        program(steps / "clean" / "step", 0o644)
        with pytest.raises(SettingsError, match="not executable"):
            deployed_step([steps], "clean")
