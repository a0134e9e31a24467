"""Lineage: the bytes of a source that a message was made from."""
