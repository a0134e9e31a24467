"""Parcelq."""
