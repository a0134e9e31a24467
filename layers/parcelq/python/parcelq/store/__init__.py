"""Stores: where the objects are, a bucket or a folder."""
