"""Uploading: files and objects, cut into parcels and published."""
