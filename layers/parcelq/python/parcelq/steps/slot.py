"""Slots: each slot does one run of a step at a time. A slot has a supervisor and, if the step is warm, the step's
process.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from parcelq.errors import StepError
from parcelq.limits import MIB
from parcelq.steps.containment import Ended, Supervised
from parcelq.steps.data import MOST_HELD, Given, HeldOutput, Output, copied, part_of_file
from parcelq.steps.find import Step
from parcelq.steps.folder import RunFolder, RunFolders
from parcelq.steps.ran import Came, or_step_error

_log = logging.getLogger(__name__)
_LARGE_INPUT: Final = 4 * MIB
"""Inputs with more bytes than this are deleted from disk as soon as their runs have ended, not by the next inputs."""


class Slot:
    """A supervisor process. Each run in this slot has a process and a folder of its own. After a run, `usable` says
    whether the slot can do another one. Raises OSError if the system cannot start another process.
    """

    warm = False

    def __init__(self, step: Step, variables: Mapping[str, str], folders: RunFolders) -> None:
        self.step = step
        self.variables = variables
        self.usable = True
        self._folders = folders
        with ExitStack() as opened:
            self._supervised = self._start(opened)
            opened.callback(self._supervised.end)
            self._opened = opened.pop_all()

    def _start(self, _opened: ExitStack) -> Supervised:
        return Supervised(None, self.variables, filters=self.step.settings.filter)

    def run(self, given: Sequence[Given], seconds: float | None) -> list[Came]:
        """Run the step over one input after another, and return the outcomes of the runs that began. Raises StepError
        if there is not enough space on the disk for a run.
        """
        with ExitStack() as opened:
            stacks, folders = [], []
            runs: list[list[str | bytes]] = []
            for one in given:
                stack = opened.enter_context(ExitStack())
                with or_step_error(self.step, "could not be given a folder"):
                    folder = stack.enter_context(self._folders.one())
                with or_step_error(self.step, "could not be given its input"):
                    one.put(folder, self.step.settings)
                stacks.append(stack)
                folders.append(folder)
                output = folder / "output"
                runs.append([*self._fields(folder), str(output), *self.step.command(folder / "input", output)])
            ended = self._supervised.run(seconds, self.step.settings.max_output_bytes, runs, [*map(str, folders)])
            self.usable = ended[-1].kind not in {"lost", "refused"}
            return [
                Came(end, folder / "output", folder / "rejects", stack.pop_all())
                for end, folder, stack in zip(ended, folders, stacks, strict=False)
            ]

    def _fields(self, folder: Path) -> list[str]:
        """Return the folder of a run, and the run's `TMPDIR`."""
        return [str(folder), self.step.settings.environment.get("TMPDIR", f"{folder}/tmp")]  # nosec B108 # its own

    def is_alive(self) -> bool:
        """Return whether the slot can do a run."""
        return self._supervised.is_alive()

    def abort(self) -> None:
        """End the current run, which is on another thread."""
        self._supervised.abort()

    def end(self) -> None:
        """End the processes of the slot, and delete their folders."""
        self._opened.close()


class WarmSlot(Slot):
    """A supervisor process, and a warm process of the step.

    The warm process starts in a folder of its own. In this folder, the files `input`, `output` and `rejects` contain
    the data of several runs in order. The runs share one folder, as long as no run leaves files in it.
    """

    warm = True

    def _start(self, opened: ExitStack) -> Supervised:
        home = RunFolder()
        opened.callback(home.remove)
        self._home = home.path
        self._folder: RunFolder | None = None
        opened.callback(self._drop_folder)
        # A run may delete these names, but the open files remain.
        self._input = opened.enter_context((self._home / "input").open("xb"))
        self._output = opened.enter_context((self._home / "output").open("x+b"))
        self._rejects = opened.enter_context((self._home / "rejects").open("x+b"))
        return Supervised(self.step.warm_command, self.variables, filters=False, home=str(self._home))

    def run(self, given: Sequence[Given], seconds: float | None) -> list[Came]:
        """Run the warm process over one input after another; see `Slot.run`.

        The list is empty if one of several runs damaged the outputs, and it is unknown which one.
        """
        with or_step_error(self.step, "could not be given its input"):
            places = self._write(given)
        with or_step_error(self.step, "could not be given a folder"):
            folder = self._folder = self._folder or RunFolder()
        settings, fields = self.step.settings, self._fields(folder.path)
        runs: list[list[str | bytes]] = []
        for one, (start, end) in zip(given, places, strict=True):
            request = {"folder": fields[0], "tmpdir": fields[1], "start": start, "end": end, "first": not runs}
            line = json.dumps(request | {"about": one.about(settings)}).encode() + b"\n"
            runs.append([*fields, f"{self._home}/output", line])
        ended = self._supervised.run(seconds, settings.max_output_bytes, runs, [str(self._home)])
        if places[-1][1] > _LARGE_INPUT:
            self._input.truncate(0)
        # guard[False]: a run of a kept process finds nothing in its folder that another run left there
        if not ended[-1].clean:
            self._drop_folder()
        # A process that left other processes running must end, because nothing else can end all of these processes.
        self.usable = ended[-1].kind == "done" and ended[-1].sound
        if ended[-1].kind == "done" and not ended[-1].sound:
            _log.warning("step %r left processes running or closed its stderr, so its process restarts", self.step.name)
        # The process died before the last of these runs, so another process takes this run.
        if ended[-1].kind == "gone" and len(ended) > 1:
            ended = ended[:-1]
        try:
            return self._taken_over(ended)
        except OSError as error:
            self.usable = False
            if len(given) > 1:
                return []
            reason = f"wrote no output that can be read: {error.strerror}"
            raise StepError(self.step.name, reason, exit_code=0) from None

    def _write(self, given: Sequence[Given]) -> list[tuple[int, int]]:
        """Write the inputs of runs into the file `input`, and return where each input begins and ends."""
        file, places = self._input, []
        file.seek(0)
        for one in given:
            start = file.tell()
            one.write(file)
            places.append((start, file.tell()))
        file.flush()
        return places

    def _taken_over(self, ended: Sequence[Ended]) -> list[Came]:
        """Return the outcomes of runs with copies of their outputs, because the next runs write at the same place."""
        good = [end for end in ended if end.kind == "done"]
        held = good if sum(end.output[1] - end.output[0] for end in good) <= MOST_HELD else good[:-1]
        outputs: list[Output] = [HeldOutput(part_of_file(self._output, *end.output)) for end in held]
        named = [part_of_file(self._rejects, *end.rejects) for end in good]
        with ExitStack() as large:
            if len(held) < len(good):  # together, the outputs are too large for memory
                target = large.enter_context(self._folders.one()) / "output"
                outputs.append(copied(self._output, *good[-1].output, target))
            stacks = [ExitStack() for _ in held] + [large.pop_all()]
        came = [Came(*one) for one in zip(good, outputs, named, stacks, strict=False)]
        return came + [Came(end, HeldOutput(b""), b"", ExitStack()) for end in ended[len(good) :]]

    def _drop_folder(self) -> None:
        if self._folder:
            self._folder.remove()
            self._folder = None
