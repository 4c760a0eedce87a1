"""Networks by name: `registry` knows them without torch, `build` makes one."""
