"""The step that a fresh stack runs: it describes each molecule of a SMILES file.

Input: one molecule a line, `SMILES name`. Output: a line of JSON for each molecule, with the counts of its heavy atoms
and rings, and with its charge. This step needs only Python, so that a first deployment works without changes. Replace
this step by your own step.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path

# An atom is in brackets, or is one of the few atoms that need no brackets: https://www.opensmiles.org/opensmiles.html
ATOM = re.compile(r"\[\d*(?P<bracket>[A-Z][a-z]?|[a-z][a-z]?)[^\]]*\]|(?P<bare>Cl|Br|[BCNOPSFI]|[bcnops])")
CHARGE = re.compile(r"\[[^\]]*?(\++|-+)(\d*)\]")
RING = re.compile(r"%\d\d|\d")


def describe(line: str) -> dict[str, object]:
    """Return the numbers of atoms and rings and the charge for a line of a SMILES file."""
    smiles, _, name = line.strip().partition(" ")
    atoms = Counter((found["bracket"] or found["bare"]).capitalize() for found in ATOM.finditer(smiles))
    if not atoms:
        raise ValueError(f"no molecule: {line!r}")
    atoms.pop("H", None)
    bonds = re.sub(r"\[[^\]]*\]", "", smiles)
    charge = sum(
        (1 if sign[0] == "+" else -1) * (int(number) if number else len(sign))
        for sign, number in CHARGE.findall(smiles)
    )
    return {
        "name": name.strip(),
        "smiles": smiles,
        "heavy_atoms": sum(atoms.values()),
        "heavy_formula": "".join(f"{atom}{count if count > 1 else ''}" for atom, count in sorted(atoms.items())),
        "rings": len(RING.findall(bonds)) // 2,
        "charge": charge,
    }


def main() -> None:
    """Read the input, one molecule a line, and write a line of JSON for each molecule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workflow-id", default="")
    parser.add_argument("--settings", type=Path)
    arguments = parser.parse_args()
    with arguments.input.open() as lines, arguments.output.open("w") as out:
        for line in lines:
            if line.strip():
                out.write(json.dumps(describe(line)) + "\n")


if __name__ == "__main__":
    main()
