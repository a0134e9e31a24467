"""`parcelq console`: jobs in a browser, with buttons."""
