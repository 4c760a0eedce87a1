"""The version of the package, by itself so that whoever records it needs no other module."""

__version__ = "0.1.0"
