"""Print store/README.md, made from the schema and the queries so that it cannot fall behind them.

python -m tests.support.store_readme > store/README.md
"""

from __future__ import annotations

from prunectl.store.db import schema
from prunectl.store.db.queries import queries

_INTRODUCTION = """\
# The store

The default place for results. A store is a folder; `--store` or `PRUNECTL_STORE` names another one.

| path | what it is |
|---|---|
| `stages/<key>/` | a stage: `spec.json`, `events.jsonl`, checkpoints, and `result.json`, written last |
| `plans/<digest>.json` | every version of every plan that was run, with its trials and their stages |
| `runs/<id>.json` | every start of a scheduler: command, commit, packages, devices |
| `scheduler.jsonl` | what the scheduler did: requests, retries, failures |
| `results.duckdb` | an index of all that, for SQL; delete it and `prunectl store rebuild` makes it again |
| `recipes/*.sql` | queries with a name: `prunectl sql -q NAME`; your own may stand beside them |
| `control/`, `logs/` | locks, the scheduler's heartbeat, requests to it; its output |

The files are the truth and the database follows them, about a second behind while a scheduler runs. Query it with
`prunectl sql QUERY` at any time, or with DuckDB's own shell: `duckdb -readonly results.duckdb`. A shell that stays
open keeps the database from following, and nothing else: the run goes on and it catches up later.

Scores are in the unit of the task's metric (table `tasks`): the accuracies of classification in percent and their
differences in percentage points. Losses are in nats, times in seconds (UTC where they are moments), sparsities
fractions from 0 to 1 of the dense network's prunable weights. `n` is the number of seeds. Intervals are 95 % intervals
by Student's t, and differences are paired by seed.
"""


def readme() -> str:
    """Return the whole text."""
    lines = [_INTRODUCTION, "## Queries", "", "| query | parameters | answers |", "|---|---|---|"]
    for query in queries().values():
        parameters = ", ".join(
            f"`{name}`" + (f" = {default}" if default is not None else "")
            for name, default in query.parameters.items()
        )
        lines.append(f"| {query.name} | {parameters} | {query.description} |")
    return "\n".join([*lines, "", "## Tables and views", "", schema.schema_text()])


if __name__ == "__main__":
    print(readme(), end="")
