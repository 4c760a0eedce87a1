"""Criteria by name: how weights are scored. `registry` knows them without torch."""
