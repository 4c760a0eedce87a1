"""Schedules of a simulated world: a real scheduler on made-up machines where everything goes wrong, and what must be
true all the same."""
