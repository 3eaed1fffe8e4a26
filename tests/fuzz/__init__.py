"""Readers of what others write, given what nobody would write: `python -m tests.fuzz --inputs 100000`."""
