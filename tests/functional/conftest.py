"""Fixtures of several modules."""

from local_world import world

__all__ = ["world"]
