"""The parcelq command line."""
