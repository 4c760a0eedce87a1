"""What these tests share with others."""

from tests.support.scheduler_fixtures import importable, private_device_locks, processes, store

__all__ = ["importable", "private_device_locks", "processes", "store"]
