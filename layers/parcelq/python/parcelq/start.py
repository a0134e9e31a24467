"""`parcelq.run`: starts a job from a Python program, on this machine or on a stack."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parcelq.errors import InvalidValueError

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from typing import TypeAlias

    from parcelq.local.job import Job
    from parcelq.local.recipe import Recipe
    from parcelq.steps.function import StepFunction

    StepLike: TypeAlias = str | Path | StepFunction[Any, Any, Any]


def run(
    step: StepLike | Sequence[StepLike],
    files: str | Path | Sequence[str | Path],
    *,
    output: str | Path = "results",
    name: str = "",
    combine: str = "",
    settings: str | Path | Sequence[str | Path] = (),
    format: str = "",  # noqa: A002 - it is called so everywhere else
    packages: Sequence[str] = (),
    env: Sequence[str] = (),
    workflow_id: str = "",
    batch_size: int = 1000,
    parcel_size: int = 1000,
    max_dead: int | str = "",
    keep_going: bool = False,
    fresh: bool = False,
    go_on: bool = False,
    stack: str = "",
) -> Job:
    """Run a step over every record of files, and write one result file per file, as the command `parcelq run` does.

    On this machine, the job runs on a thread of this program, and the step runs in separate processes. A job that was
    stopped continues when the same call is repeated. On a stack, a thread follows the jobs of the files and downloads
    the results.

    Args:
        step: the path of a file or a folder, the name of a program on the PATH, or a function decorated with `@step`;
            several steps run one after another.
        files: the paths of files, folders and pipes, and patterns such as `data/*.smi`; for a stack, the paths of files
            and addresses of objects such as `s3://bucket/key`.
        output: the path of the folder of results.
        name: the name of the result; allowed only if there is only one file.
        combine: the name of one result for all files; empty if each file has its own result.
        settings: the settings files, in the order of the steps.
        format: the record format, such as `csv`; by default derived from the files' names.
        packages: the names of Python packages that the steps need.
        env: the names of this program's environment variables that the steps get.
        workflow_id: the value that the steps get as `--workflow-id`.
        batch_size: the most entries of one run of a step.
        parcel_size: the most entries of one message.
        max_dead: how many entries may fail before the job stops: a number such as 10, or a share such as `1%`.
        keep_going: whether to continue even if the step fails on every record.
        fresh: whether to discard the work of an earlier run and start over.
        go_on: whether to continue a job with another version of the step.
        stack: the name of a stack on AWS; empty to run on this machine.

    Raises:
        InvalidValueError: if a value is invalid.
        SettingsError: if a step or settings file does not exist, or if the dependencies of a step cannot be installed.
        ParcelqError: if there is no such stack, if a file cannot be read, or if a step called this function.
    """
    from parcelq.jobs.workflow import workflow_name
    from parcelq.local.job import Job
    from parcelq.local.module_step import check_not_in_step, folder_of
    from parcelq.local.recipe import Recipe
    from parcelq.local.run import run_files
    from parcelq.steps.function import StepFunction

    check_not_in_step()

    def path_of(one: StepLike) -> str:
        if isinstance(one, StepFunction):
            return str(folder_of(one))
        if not isinstance(one, str | Path):
            raise InvalidValueError("step", one, "a path, a name on the PATH, or a function decorated with @step")
        return str(one)

    if name and combine:
        raise InvalidValueError("name", name, "omitted with combine, because both name the result")
    if fresh and go_on:
        raise InvalidValueError("go_on", go_on, "omitted with fresh, which starts over")
    recipe = Recipe(
        tuple(map(path_of, _listed(step))),
        "",
        tuple(map(str, _listed(settings))),
        workflow_id,
        tuple(packages),
        tuple(env),
        format,
        batch_size,
        parcel_size,
        str(max_dead),
        keep_going,
    )
    folder = Path(output)
    given = [str(one) for one in _listed(files)]
    if stack:
        only_here = {
            "name": name,
            "combine": combine,
            "env": env,
            "workflow_id": workflow_id,
            "keep_going": keep_going,
            "fresh": fresh,
            "go_on": go_on,
        }
        for option, value in only_here.items():
            if value:
                raise InvalidValueError(option, value, "omitted for a stack, because it is only for this machine")
        names = [getattr(one, "__name__", "") or Path(str(one)).stem for one in _listed(step)]
        return _on_stack(recipe, workflow_name("-".join(names)), given, stack, folder)
    options = recipe.options(folder, _log.info, fresh=fresh, go_on=go_on)
    return Job(
        lambda show, cancelled: run_files(
            given, options, show, name=name, combine=combine, note=_log.warning, cancelled=cancelled
        ),
        folder,
    )


def _on_stack(recipe: Recipe, name: str, files: Sequence[str], stack: str, folder: Path) -> Job:
    from parcelq.local.job import Job
    from parcelq.stack.follow import Followed, follow
    from parcelq.stack.lookup import look_up
    from parcelq.stack.publishing import silently
    from parcelq.stack.run import check_files, put_files

    assembled = recipe.assembled()._replace(name=name)
    names = check_files(files, folder)
    found = look_up(stack)
    return Job(
        lambda show, cancelled: follow(
            Followed(found.jobs, put_files(found, files, names, assembled, _log.info, silently)),
            folder,
            show,
            cancelled,
        ),
        folder,
    )


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]
