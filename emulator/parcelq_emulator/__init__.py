"""The emulated stack: Parcelq with an emulated AWS on one machine."""
