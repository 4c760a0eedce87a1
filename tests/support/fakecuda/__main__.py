"""Builds the fake CUDA runtime, or runs a command with it; see the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support import fakecuda


def main(arguments: list[str]) -> None:
    match arguments:
        case ["build", *rest]:
            try:
                print(fakecuda.build(Path(rest[0]) if rest else None))
            except RuntimeError as error:
                sys.exit(str(error))
        case ["run", command, *rest]:
            if (reason := fakecuda.missing()) is not None:
                sys.exit(reason)
            os.execvpe(command, [command, *rest], fakecuda.environment())
        case _:
            sys.exit("usage: python -m tests.support.fakecuda build [FOLDER] | run COMMAND…")


main(sys.argv[1:])
