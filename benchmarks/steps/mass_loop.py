"""The work of `mass.py` as a loop over the file: `mass_loop.py SOURCE TARGET`; the reasons of bad molecules go to
`TARGET.bad`.
"""

from __future__ import annotations

import sys

from rdkit import Chem, RDLogger
from rdkit.Chem.Descriptors import MolWt  # type: ignore[attr-defined]

RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]


def main(source: str, target: str) -> None:
    """Calculate the mass of each molecule of `source`, and write the masses into `target`."""
    with open(source) as lines, open(target, "w") as out, open(f"{target}.bad", "w") as bad:
        for number, line in enumerate(lines, 1):
            smiles = line.split()[0]
            molecule = Chem.MolFromSmiles(smiles)
            if molecule is None:
                bad.write(f"{number} bad SMILES {smiles!r}\n")
            else:
                out.write(f"{smiles} {MolWt(molecule):.3f}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
