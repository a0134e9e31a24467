"""How much the heavy atoms of each molecule weigh, as lines of JSON: a function of one entry, kept in memory.

Input: one molecule a line, `SMILES name`. What is outside the function is done once for each process.
"""

from __future__ import annotations

import json
import re

from parcelq.step import reject, step

ATOM = re.compile(r"\[\d*([A-Z][a-z]?|[a-z][a-z]?)[^\]]*\]|(Cl|Br|[BCNOPSFI]|[bcnops])")
WEIGHTS = {"B": 10.81, "C": 12.011, "N": 14.007, "O": 15.999, "F": 18.998, "P": 30.974, "S": 32.06, "Cl": 35.45}
WEIGHTS |= {"H": 0.0, "Na": 22.990, "Si": 28.085, "K": 39.098, "Se": 78.971, "Br": 79.904, "I": 126.904}


@step(each=True)
def weigh(line: str, settings: dict[str, int]) -> str:
    smiles, _, name = line.strip().partition(" ")
    atoms = [(one or other).capitalize() for one, other in ATOM.findall(smiles)]
    if not atoms:
        reject(line, "no molecule")
    return json.dumps({"name": name, "weight": round(sum(WEIGHTS[atom] for atom in atoms), settings["digits"])})


if __name__ == "__main__":
    weigh.main()
