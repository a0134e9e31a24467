"""A place for one run of a step at a time: its supervisor, and the step's own process if that is kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from parcelq.steps.containment import Ended, Supervised
from parcelq.steps.find import Step
from parcelq.steps.run_folders import RunFolder

_log = logging.getLogger(__name__)


class Slot:
    """A supervisor, and the process below it if the step is warm.

    Attributes:
        step: the step.
        variables: its environment.
        warm: whether its process is kept for the next run.

    Raises:
        OSError: there is no room for another process.
    """

    def __init__(self, step: Step, variables: Mapping[str, str], *, warm: bool) -> None:
        self.step = step
        self.variables = variables
        self.warm = warm
        with ExitStack() as opened:
            self._home: Path | None = None
            if warm:
                home = RunFolder()
                opened.callback(home.remove)
                self._home = home.path
            command = step.warm_command if warm else None
            self._supervised = Supervised(command, variables, filters=step.settings.filter)
            opened.callback(self._supervised.end)
            self._opened = opened.pop_all()

    def run(self, folder: Path, seconds: float | None) -> Ended:
        """Run the step over the input in a run's folder.

        Args:
            folder: the folder of the run.
            seconds: how long the run may take; None for any time.
        """
        settings = self.step.settings
        output, home = folder / "output", self._home or folder
        tmpdir = settings.environment.get("TMPDIR", f"{home}/tmp")  # nosec B108 # in a folder of its own
        more: list[str | bytes] = []
        if not self.warm:
            more += self.step.command(folder / "input", output)
        else:
            request = {name: f"{folder}/{name}" for name in ("input", "output", "rejects", "work")}
            request["tmpdir"] = settings.environment.get("TMPDIR", f"{folder}/tmp")  # nosec B108
            more = [json.dumps(request).encode() + b"\n"]
        return self._supervised.run(seconds, settings.max_output_bytes, home, tmpdir, output, *more)

    def is_usable(self, ended: Ended) -> bool:
        """Return whether another run can follow the one that ended like this.

        A warm step's process must end if a run of it left processes running, since nothing else can end all of them.
        """
        if not self.warm:
            return ended.kind not in {"lost", "refused"}
        if ended.kind == "done" and not ended.sound:
            _log.warning("step %r left processes running or closed its stderr, so it is started again", self.step.name)
        return ended.kind == "done" and ended.sound

    def is_alive(self) -> bool:
        """Return whether it can take a run."""
        return self._supervised.is_alive()

    def abort(self) -> None:
        """End a run that goes on, on another thread."""
        self._supervised.abort()

    def end(self) -> None:
        """End the processes, and delete their folder."""
        self._opened.close()
