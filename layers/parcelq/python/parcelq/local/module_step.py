"""Makes a step from a decorated function of a Python module.

The step is a folder with a copy of the module, and a program that imports the copy and runs the function. So a script
can run one of its own functions over files, because the step does not execute the code under `if __name__ ==
"__main__"`.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any, Final

from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.steps.environments import cache_folder, script_blocks
from parcelq.steps.function import StepFunction

_MODULE: Final = "parcelq_step_module"
"""The name under which the program of a step imports the copy of the module."""
_PROGRAM: Final = '''{metadata}"""Runs a function of the module beside this file as a step."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import parcelq.step

spec = spec_from_file_location({module!r}, Path(__file__).parent / "module" / {name!r})
module = sys.modules[{module!r}] = module_from_spec(spec)
spec.loader.exec_module(module)

if __name__ == "__main__":
    module.{function}.main()
'''


def check_not_in_step() -> None:
    """Check that this process is not a step that imports its module. Otherwise a step would start further steps without
    end.

    Raises:
        ParcelqError: if this process is such a step.
    """
    if _MODULE in sys.modules:
        raise ParcelqError(
            "a step called parcelq.run, because each step imports the module of its function; "
            "put the call of parcelq.run under if __name__ == '__main__'"
        )


def folder_of(function: StepFunction[Any, Any, Any], cache: Path | None = None) -> Path:
    """Return the folder of a function's step, and create the folder if it does not exist.

    The folder's name is a digest of its content. Its parent is a subfolder of `cache`, by default `cache_folder()`.

    Raises:
        InvalidValueError: if the function is not at the top level of a module that is a file.
    """
    name: str = getattr(function, "__qualname__", "")
    path = inspect.getsourcefile(inspect.unwrap(function))
    if not name.isidentifier():
        raise InvalidValueError("step", name, "a function at the top of a module, so that it can be found there")
    if path is None or not Path(path).is_file():
        raise InvalidValueError("step", name, "a function in a file, because the step is a copy of that file")
    module = Path(path).read_bytes()
    metadata = next(script_blocks(module.decode("utf-8", "replace")), None)
    about = f"{metadata[0]}\n" if metadata else ""
    program = _PROGRAM.format(metadata=about, module=_MODULE, name=Path(path).name, function=name).encode()
    digest = hashlib.sha256(program + module).hexdigest()[:24]
    folder = (cache or cache_folder()) / "steps" / digest
    if not folder.is_dir():  # created under another name and renamed, so that it is never incomplete
        made = folder.with_name(f"{digest}.{uuid.uuid4().hex}")
        (made / "module").mkdir(parents=True)
        (made / "module" / Path(path).name).write_bytes(module)
        (made / "step.py").write_bytes(program)
        try:
            made.rename(folder)
        except OSError:  # another process has created the folder
            shutil.rmtree(made)
    return folder
