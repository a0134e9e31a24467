"""Draws the progress of simulated jobs: `scale_picture.py SCALE.json PICTURE.png`. The program needs matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"uploaded": "#4a6fa5", "processed": "#3b7f5c", "collected": "#b5483a"}


def main(source: Path, target: Path) -> None:
    """Draw each job as one plot: the share of the job that was done over time, and the time when the result was
    complete.
    """
    jobs = json.loads(source.read_bytes())
    plot, every = plt.subplots(1, len(jobs), figsize=(3.2 * len(jobs), 3.2), layout="constrained", sharey=True)
    for job, axes in zip(jobs, every, strict=True):
        times = [point[0] for point in job["series"]]
        for number, (name, colour) in enumerate(COLOURS.items(), 1):
            axes.plot(times, [100 * point[number] for point in job["series"]], color=colour, label=name)
        axes.axvline(job["result"], color="black", linewidth=1, linestyle="--", label="result")
        axes.set_xlim(0, 1.05 * job["result"])
        axes.set_title(f"{job['lines']:,} lines, Concurrency {job['setup']['concurrency']:,}", fontsize=9)
        axes.set_xlabel("seconds after the put", fontsize=8)
    every[0].set_ylabel("% of the job", fontsize=8)
    every[0].legend(fontsize=7)
    plot.savefig(target, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
