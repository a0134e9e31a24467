"""The embedded stack: Parcelq on one machine, without AWS."""
