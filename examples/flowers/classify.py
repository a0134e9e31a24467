# /// script
# dependencies = ["scikit-learn>=1.5"]
# ///
"""Names the species of each flower with a model that each process loads once.

A run gives the model all its records together.
"""

import csv
import json
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path

from parcelq.step import step

MODEL = pickle.loads(Path(__file__).with_name("model.pickle").read_bytes())


@step
def classify(records: Iterable[str]) -> Iterator[str]:
    rows = list(csv.reader(records))
    species = MODEL.predict([[float(length), float(width)] for length, width in rows])
    for (length, width), name in zip(rows, species, strict=True):
        yield json.dumps({"petal_length": float(length), "petal_width": float(width), "species": name})


if __name__ == "__main__":
    classify.main()
