"""Lineage: which bytes of a source a message stands for."""
