# /// script
# requires-python = ">=3.11"
# dependencies = ["rdkit>=2025.9"]
# ///
"""Descriptors of molecules by RDKit, as lines of JSON. What the block above names is installed at the first run.

Input: one molecule a line, `SMILES name`.
"""

from __future__ import annotations

import json

from parcelq.step import reject, step
from rdkit import Chem, RDLogger
from rdkit.Chem import QED, Descriptors, rdMolDescriptors

RDLogger.DisableLog("rdApp.*")  # what it says about a bad molecule is the reason below


@step(each=True)
def score(line: str) -> str:
    smiles, _, name = line.strip().partition(" ")
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        reject(line, f"RDKit cannot read the SMILES {smiles!r}")
    return json.dumps(
        {
            "name": name,
            "formula": rdMolDescriptors.CalcMolFormula(molecule),
            "weight": round(Descriptors.MolWt(molecule), 2),
            "logp": round(Descriptors.MolLogP(molecule), 3),
            "qed": round(QED.qed(molecule), 4),
        }
    )


if __name__ == "__main__":
    score.main()
