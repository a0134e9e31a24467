"""Adds the price with tax to each order: CSV with its header, in and out."""

import csv
import sys

RATE = 1.2

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
with open(arguments["--input"], newline="") as source, open(arguments["--output"], "w", newline="") as result:
    reader = csv.DictReader(source)
    writer = csv.DictWriter(result, [*(reader.fieldnames or ()), "gross"], lineterminator="\n")
    writer.writeheader()
    for row in reader:
        writer.writerow({**row, "gross": f"{RATE * int(row['quantity']) * float(row['price']):.2f}"})
