"""Make the store of an older version that tests/compatibility reads: `python -m tests.support.make_old_store CHECKOUT`.

CHECKOUT is a folder with the package of that version. Its path stands in the asset, in tracebacks and command lines.
The asset was made with

    git worktree add --detach /tmp/prunectl-c6e061d c6e061d
    python -m tests.support.make_old_store /tmp/prunectl-c6e061d

It is an xz-compressed tar with plans/, store/ (results.duckdb as that version left it, checkpoints without what
`store gc` removes) and answers.json:

    questions  [{command, code, out, err}]   out is parsed where the command writes JSON
    runs       [{command, code, err}]        each plan run again, in a copy of the store
    calls      [{command, code, out}]        commands and mistakes, one after the other in a copy of the store; out only
                                             of what `--format` writes
    commands   {words: [parameter]}          as tests/support/list_commands.py says
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "tests" / "compatibility"

TOY = """
[datasets.toy]
kind = "synthetic"
channels = 1
height = 8
width = 8
classes = 4
train = 256
test = 100
"""
RECIPE = """
[recipe]
length = "4ep"
batch = 64
optimizer = { name = "sgd", momentum = 0.0, nesterov = false }  # half the size of a checkpoint
schedule = { kind = "step", lr = 0.2, milestones = ["2ep", "3ep"] }

[recipe.retrain]
fine-tune = "full"
weight-rewind = "3ep"
"""
HOT = """
[strategies.hot]                # its learning rate is far too large: the loss is not finite
weights_from = "parent"
lr_window = { constant = 1e30 }
retrain = "2ep"
"""


def study(name: str, strategies: str, rest: str, *, seeds: str = "[0]") -> str:
    """The text of a plan on the toy data set."""
    return f"""\
# {name.capitalize()}: what does a toy say?
name = "{name}"
seeds = {seeds}

[grid]
network = ["convnet"]
dataset = ["toy"]
strategy = {strategies}
{rest}"""


TINY = study(
    "tiny",
    '["fine-tune", "weight-rewind"]',
    f"""
[grid.pruning]
schedule = [
    {{ kind = "iterative", rate = 0.5, iterations = 2 }},
    {{ kind = "one-shot", sparsities = [0.5] }},
]
{TOY}{RECIPE}""",
    seeds="[0, 1]",
)
SHARING = study(
    "sharing",
    '["fine-tune", "partial-rewind-75"]',
    f"""
[grid.pruning]
criterion = ["random", "magnitude"]
{TOY}{RECIPE}
[pruning]
granularity = "channel"
schedule = {{ kind = "one-shot", sparsities = [0.3] }}
""",
)
DIVERGED = study(
    "diverged",
    '["fine-tune", "hot"]',
    f"""{TOY}{RECIPE}{HOT}
[pruning]
schedule = {{ kind = "one-shot", sparsities = [0.5] }}
""",
)
FAILED = study(
    "failed",
    '["fine-tune", "hot"]',
    f"""{TOY}{RECIPE}{HOT}
[pruning]
schedule = {{ kind = "iterative", rate = 0.5, iterations = 2 }}
""",
)
CANCELLED = study(
    "cancelled",
    '["fine-tune"]',
    """
[datasets.toy]
kind = "synthetic"
channels = 1
height = 8
width = 8
classes = 6
train = 300
test = 100

[recipe]
length = "4ep"
batch = 50
optimizer = { name = "sgd", momentum = 0.9, nesterov = true, weight_decay = 1e-4 }
schedule = { kind = "cosine", lr = 0.1, end = 0.001, warmup = "1ep" }
augment = { pad = 1, flip = true }
validation = { from = "train", count = 50 }

[recipe.retrain]
fine-tune = "2ep"

[pruning]
scope = "layerwise"
schedule = { kind = "one-shot", sparsities = [0.8] }
""",
    seeds="[0, 1]",
)
PLANS = {
    "tiny": TINY,
    "sharing": SHARING,
    "diverged": DIVERGED,
    "failed": FAILED,
    "cancelled": CANCELLED,
    # The second version of the first plan: one value is another.
    "tiny-2": TINY.replace("sparsities = [0.5]", "sparsities = [0.9]"),
}

SKIPPED_TABLES = ("published", "store")
"""What that version ships, and what is made anew by `store rebuild`."""
SKIPPED_COLUMNS = ("stamp", "head", "rate_step", "rate")
"""Of `ingested`: how files were when they were last read."""
PASSING = ("time", "store", "age")
"""Keys of `status --json` and `show --json` that hold the moment or the folder."""


CALLS = (
    "",
    "--version",
    "nothing",
    "run",
    "run plans/none.toml",
    "run plans/tiny.toml --slots 0",
    "run plans/tiny.toml --devices cuda:9 --set seeds=[7]",
    "run plans/tiny.toml --set seeds=[0,0]",
    "run plans/tiny.toml --set nothing=1",
    "run plans/tiny.toml plans/tiny-2.toml",
    "show",
    "show plans/tiny.toml",
    "show plans/none.toml",
    "show --trial 0000",
    "status",
    "status --store none",
    "watch --store none",
    "rank none",
    "rank tiny --network none",
    "rank tiny --format csv",
    "rank tiny --format md",
    "rank tiny --format latex",
    "rank tiny --delta --format csv",
    "rank --all --summary --format csv",
    "rank --format xml",
    "compare --to nobody",
    "sql",
    "sql nonsense",
    "sql --schema",
    "sql -r list",
    "sql -r nothing",
    "sql -r leaderboard --format csv",
    "sql -r leaderboard -p plan=tiny --format md",
    "sql -r time-per-strategy --limit 2 --format csv",
    "sql -r failures-by-reason --format csv",
    "sql -r seeds-missing --format csv",
    "sql -r layer-density --format csv",
    "sql -f none.sql",
    "plot none",
    "plot tiny --kind pie",
    "export",
    "export 0000",
    "export --study none",
    "export --study tiny -o study",
    "import study --store taken",
    "store verify --store taken",
    "import none",
    "hold plan=tiny,seed=0",
    "release plan=tiny,seed=0",
    "retry plan=failed",
    "cancel plan=failed",
    "cancel",
    "cancel plan=none",
    "cancel --where nothing=1",
    "priority plan=tiny --to 3",
    "priority plan=tiny",
    "stop",
    "drain cpu",
    "undrain cpu",
    "store",
    "store where",
    "store where --store none",
    "store verify --store none",
    "store rebuild --store none",
    "store gc --dry-run",
    "store gc",
    "bench",
    "bench train --device cuda",
    "bench nothing",
)
"""Each command as it should and should not be used; the exit codes are what scripts rely on."""


class OldVersion:
    """The command of a checkout, in a folder with plans/ and store/."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout = checkout
        self.folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if "PRUNECTL" not in name},
            "PYTHONPATH": os.pathsep.join([str(checkout), str(ROOT)]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "COLUMNS": "100",
            "TZ": "UTC",
        }

    def start(self, *words: str, module: str = "prunectl.cli") -> subprocess.Popen[str]:
        """Start a command, or another module."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, code: int | None = 0) -> dict[str, Any]:
        """Run a command to its end; what it answered. Raises RuntimeError where the exit code is not `code`."""
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        if code is not None and process.returncode != code:
            raise RuntimeError(f"{words} ended with {process.returncode}: {err}")
        return {"command": list(words), "code": process.returncode, "out": out, "err": err}


def fill(old: OldVersion) -> None:
    """Run the plans: shared stages, a diverged one, a failed one, an interrupted run, a cancelled trial."""

    def run(name: str, code: int = 0) -> None:
        old("run", f"plans/{name}.toml", "--slots", "1", "--plain", code=code)

    run("tiny")
    run("sharing")
    run("diverged")
    run("failed", code=1)
    interrupted = old.start("run", "plans/cancelled.toml", "--slots", "1", "--plain")
    log = old.folder / "store" / "scheduler.jsonl"
    known = log.read_text().count('"dispatched"')
    while log.read_text().count('"dispatched"') == known and interrupted.poll() is None:
        time.sleep(0.01)
    interrupted.send_signal(signal.SIGINT)
    if interrupted.wait(60) != 130:
        raise RuntimeError("the run ended before it was interrupted")
    old("cancel", "plan=cancelled,seed=1")
    run("cancelled")
    old("store", "gc", "--yes")
    run("tiny-2")


def columns(old: OldVersion) -> dict[str, list[str]]:
    """The columns of every table and view that are compared."""
    sql = "SELECT table_name, column_name FROM information_schema.columns ORDER BY ALL"
    rows = json.loads(old("sql", sql, "--format", "json")["out"])
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["table_name"] in SKIPPED_TABLES or row["column_name"] in SKIPPED_COLUMNS:
            continue
        found.setdefault(row["table_name"], []).append(row["column_name"])
    return found


def questions(tables: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """The commands whose answers are kept."""
    names = sorted({name.removesuffix("-2") for name in PLANS})
    rank = [
        ("rank", *words, "--format", "json")
        for words in (*((name,) for name in names), ("--all",), ("--all", "--summary"))
    ]
    show = [("show", f"plans/{name}.toml", "--json") for name in PLANS]
    sql = [
        ("sql", f"SELECT {', '.join(names)} FROM {table} ORDER BY ALL", "--format", "json")
        for table, names in tables.items()
    ]
    verify = ("store", "verify")
    return [("status", "--json"), *rank, ("compare", "--format", "json"), *show, *sql, verify]


def ask(old: OldVersion, words: tuple[str, ...]) -> dict[str, Any]:
    """A question with its answer; JSON is parsed, and what passes is left out."""
    answer = old(*words)
    if "json" in words or "--json" in words:
        answer["out"] = without(json.loads(answer["out"]))
    return answer


def without(value: Any) -> Any:
    """The value without the keys that hold the moment or the folder."""
    if isinstance(value, dict):
        return {name: without(inner) for name, inner in value.items() if name not in PASSING}
    return [without(inner) for inner in value] if isinstance(value, list) else value


def run_again(old: OldVersion) -> list[dict[str, Any]]:
    """Each plan once more, in a copy of the store; a failed stage would be tried again, so its plan is left out."""
    answers = []
    for name in PLANS:
        if name == "failed":
            continue
        shutil.copytree(old.folder / "store", old.folder / "again")
        answer = old("run", f"plans/{name}.toml", "--store", "again", "--plain", code=None)
        shutil.rmtree(old.folder / "again")
        words = [word for word in answer["command"] if word not in ("--store", "again")]
        answers.append({"command": words, "code": answer["code"], "err": answer["err"]})
    return answers


def call(old: OldVersion) -> list[dict[str, Any]]:
    """The exit codes of the calls, one after the other in a copy of the store."""
    copy = old.folder / "copy"
    for name in ("plans", "store"):
        shutil.copytree(old.folder / name, copy / name)
    old = OldVersion(old.checkout, copy)
    answers = []
    for words in CALLS:
        answer = old(*words.split(), code=None)
        del answer["err"]
        if "--format" not in words or answer["code"]:
            del answer["out"]
        answers.append(answer)
    shutil.rmtree(copy)
    return answers


def commands(old: OldVersion) -> Any:
    """What its commands take."""
    return json.loads(old.start(module="tests.support.list_commands").communicate(timeout=60)[0])


def pack(folder: Path, file: Path) -> None:
    """Write the archive, its members in order and without owners."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(file, "w:xz", preset=9) as archive:
        for name in ("plans", "store", "answers.json"):
            archive.add(folder / name, name, filter=plain)


def main(checkout: str) -> None:
    """Make the asset from the package in `checkout`."""
    place = Path(checkout).resolve()
    version = place.name.rsplit("-", 1)[-1]
    with tempfile.TemporaryDirectory(prefix="old-store-") as name:
        folder = Path(name)
        (folder / "plans").mkdir()
        for plan, text in PLANS.items():
            (folder / "plans" / f"{plan}.toml").write_text(text)
        old = OldVersion(place, folder)
        fill(old)
        tables = columns(old)
        answers = {
            "questions": [ask(old, words) for words in questions(tables)],
            "runs": run_again(old),
            "calls": call(old),
            "commands": commands(old),
        }
        (folder / "answers.json").write_text(json.dumps(answers, indent=1))
        pack(folder, ASSETS / f"store-{version}.tar.xz")


if __name__ == "__main__":
    main(*sys.argv[1:])
