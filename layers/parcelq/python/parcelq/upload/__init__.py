"""Uploads files and objects: cuts them into parcels and publishes these."""
