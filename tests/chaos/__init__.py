"""Killing everything at every moment: in the suite a short form, `python -m tests.chaos --help` the long ones."""
