"""Processing: what becomes of pulled messages."""
