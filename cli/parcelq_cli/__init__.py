"""The parcelq command line and the embedded stack."""
