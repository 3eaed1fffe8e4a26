"""Bringing in runs that other tools recorded."""
