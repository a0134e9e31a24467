"""A step that calculates the mass of each molecule with RDKit, and rejects each bad molecule individually."""

from __future__ import annotations

from parcelq.step import step
from rdkit import Chem, RDLogger
from rdkit.Chem.Descriptors import MolWt  # type: ignore[attr-defined]

RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]


@step(each=True)
def mass(entry: str) -> str:
    """Return the molecule's SMILES and its mass."""
    smiles = entry.split(maxsplit=1)[0]
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"bad SMILES {smiles!r}")
    return f"{smiles} {MolWt(molecule):.3f}"


if __name__ == "__main__":
    mass.main()
