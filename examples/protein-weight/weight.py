"""The molecular weight of each protein of a FASTA file, in daltons, as tab-separated lines."""

# The average mass of each amino acid in a chain: https://web.expasy.org/findmod/findmod_masses.html
from parcelq.step import reject, step

MASS = {"A": 71.0788, "R": 156.1875, "N": 114.1038, "D": 115.0886, "C": 103.1388, "E": 129.1155, "Q": 128.1307}
MASS |= {"G": 57.0519, "H": 137.1411, "I": 113.1594, "L": 113.1594, "K": 128.1741, "M": 131.1926, "F": 147.1766}
MASS |= {"P": 97.1167, "S": 87.0782, "T": 101.1051, "W": 186.2132, "Y": 163.1760, "V": 99.1326}
WATER = 18.01524


@step(each=True)
def weight(record: str) -> str:
    title, *lines = record.splitlines()
    sequence = "".join(lines)
    if unknown := sorted(set(sequence) - MASS.keys()):
        reject(record, f"unknown amino acids {', '.join(unknown)}")
    return f"{title[1:].split()[0]}\t{WATER + sum(MASS[one] for one in sequence):.2f}"


if __name__ == "__main__":
    weight.main()
