"""Tasks: what a network is trained to do, and what is measured of it. `registry` knows them without torch."""
