"""Stores: where objects lie, a bucket or a folder."""
