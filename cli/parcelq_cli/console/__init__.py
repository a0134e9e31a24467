"""`parcelq console`: shows jobs in a browser, with buttons."""
