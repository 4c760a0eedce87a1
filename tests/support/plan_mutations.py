"""Plans as people and programs get them wrong: values of other types and sizes, lines lost, doubled or out of place."""

from __future__ import annotations

import random
import re

_DEEP = 300
NUMBERS = (
    "0", "-1", "1", "2", "7", "100", "2147483647", "2147483648", "9007199254740993", "9223372036854775807",
    "9223372036854775808", "-9223372036854775809", "1180591620717411303424", "0x" + "f" * 40, "0x" + "f" * 9000,
    "9" * 5000, "1_000_000_000", "0.1", "0.5", "0.999999999999999999", "1.0", "1e-9", "1e-40", "5e-324", "1e38",
    "1e39", "1e308", "1e400", "-0.0", "inf", "-inf", "nan",
)  # fmt: skip
LENGTHS = (
    "1ep", "0ep", "0it", "1it", "3ep200it", "0.5ep", "1e5ep", "999999999ep", "1000000000000it", "1000000000001it",
    "99999999999999999999ep", f"{'9' * 5000}it", "0.000000000000000000000000001ep", "１ep", "-1ep",
)  # fmt: skip
TEXTS = (
    "", "x", "fine-tune", "reinit", "dense", "partial-rewind-1e2", "lenet-5", "resnet-20", "resnet-1202",
    "resnet-9998", f"resnet-{'9' * 5000}", "wrn-10-64", "wrn-9994-9999", "synthetic", "digits", "folder", "full", "é",
    "\\u0000", "\\U0001F600", "\\u202e", "../../etc/passwd", "a" * 10_000, "auto", "magnitude", "0",
)  # fmt: skip
OTHERS = (
    "true", "[]", "{}", "[[]]", "[1, [2, [3]]]", "1979-05-27", "07:32:00", "[0, 1, 2, 3]", '["fine-tune"]',
    "[" * _DEEP + "]" * _DEEP, "[" * 2000 + "]" * 2000, "{a = " * 30 + "1" + "}" * 30,
    '{ kind = "one-shot", rate = 0.001, until = 0.5 }', '{ kind = "iterative", rate = 0.01, iterations = 1000 }',
    '{ kind = "one-shot", rate = 1e-9, iterations = 1000 }', '{ kind = "cosine", lr = 0.1 }',
    str(list(range(3000))), str(list(range(60_000))), str([n / 2001 for n in range(1, 2001)]),
    "[" + ", ".join(f'"{n}it"' for n in range(1, 3000)) + "]",
    "[" + ", ".join(f'{{ kind = "one-shot", sparsities = [{n / 500}] }}' for n in range(1, 400)) + "]",
)  # fmt: skip
VALUES = (*NUMBERS, *(f'"{text}"' for text in (*LENGTHS, *TEXTS)), *OTHERS)
TABLES = (
    "grid.recipe", "grid.pruning", "grid.recipe.optimizer", "recipe.optimizer", "recipe.augment", "recipe.validation",
    "recipe.network", "recipe.normalize", "run", "strategies.mine", "datasets.mine",
)  # fmt: skip
KEYS = (
    "batch", "micro_batch", "length", "evaluate", "momentum", "beta1", "eps", "weight_decay", "nesterov", "pad",
    "scale", "ratio", "crop", "count", "from", "bn_eps", "mean", "std", "slots_per_device", "weights_from",
    "lr_window", "retrain", "kind", "height", "channels", "seed", "schedule", "criterion", "exclude", "ratios", "skip",
)  # fmt: skip
CHARACTERS = (
    "\u200b",
    "\ufeff",
    "é",
    "\x00",
    "\ud7ff",
    "'",
    '"',
    "[",
    "]",
    "{",
    "}",
    ".",
    "#",
    "=",
    "\u202e",
    "٣",
)
_VALUE = re.compile(r'"[^"]*"|-?\d+(?:\.\d+)?')


def mutated(draw: random.Random, text: str) -> str:
    """The text of a plan with one to three mistakes."""
    lines = text.split("\n")
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        keys = [n for n, line in enumerate(lines) if "=" in line and not line.startswith("#")]
        place = draw.choice(keys) if keys else 0
        line = lines[place]
        match draw.randrange(9):
            case 0 | 1:
                lines[place] = f"{line.partition('=')[0]}= {draw.choice(VALUES)}"
            case 2 | 3 | 4 if found := list(_VALUE.finditer(line)):
                at = draw.choice(found)
                alike = LENGTHS + TEXTS if at[0].startswith('"') else NUMBERS
                value = draw.choice(alike)
                value = f'"{value}"' if at[0].startswith('"') else value
                lines[place] = line[: at.start()] + value + line[at.end() :]
            case 5:
                del lines[place]
            case 6:
                lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
            case 7:
                at_ = draw.randrange(len(line) + 1)
                lines[place] = line[:at_] + draw.choice(CHARACTERS) + line[at_:]
            case _:
                said = f"{draw.choice(KEYS)} = {draw.choice(VALUES)}"
                lines += [f"[{draw.choice(TABLES)}]", said]
    return "\n".join(lines)


def override(draw: random.Random) -> str:
    """A `--set` of any key to any value."""
    table = draw.choice(
        (*TABLES, "recipe", "pruning", "grid", "pruning.schedule", "recipe.schedule")
    )
    return f"{table}.{draw.choice((*KEYS, 'rate', 'lr', 'gamma', 'until'))}={draw.choice(VALUES)}"
