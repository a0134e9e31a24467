"""The emulated stack: runs Parcelq on one machine, with an emulated AWS."""
