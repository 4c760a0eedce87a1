"""`python -m prunectl.cli`, where the `prunectl` command is not installed."""

from prunectl.cli.app import main

main()
