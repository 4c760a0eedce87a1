"""Which test items each network has right: rows of the table `correctness`, from predictions and labels.

The labels are those of the table `labels`, which are loaded before any stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prunectl.errors import StoreError
from prunectl.store.db.database import Connection, Row, first_column
from prunectl.store.db.left_out import LeftOut
from prunectl.store.paths import StagePaths
from prunectl.store.predictions import read_predictions
from prunectl.store.records.base import BadRecord
from prunectl.store.records.result import Result
from prunectl.store.tensors import CorruptFile

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

_LATE = """
    SELECT count(*) FROM events
    WHERE type = 'done' AND data->>'$.test_set' IN (SELECT unnest($1)) AND stage NOT IN (SELECT stage FROM correctness)
"""


def came_late(connection: Connection, test_sets: Sequence[str]) -> bool:
    """Return whether there are done stages of these test sets without a row, as where the labels had been missing."""
    return bool(test_sets) and bool(first_column(connection, _LATE, [list(test_sets)])[0])


class Correctness:
    """Makes the rows, for one open connection."""

    def __init__(self, connection: Connection, left_out: LeftOut) -> None:
        self._connection = connection
        self._left_out = left_out
        self._labels: dict[str, Array | None] = {}

    def row(self, stage: StagePaths, result: Result) -> tuple[Row | None, bool]:
        """Return a done stage's row, as `rows.CORRECTNESS`, and whether that is all there is to know.

        There is none where its predictions are not kept, or are damaged or of other items than its labels: the file is
        left out then. Where it cannot be read it is to be tried again.
        """
        if not result.test_set:
            return None, True
        self._left_out.look_at(stage.predictions)
        try:
            predictions = read_predictions(stage, result)
            labels = self._labels_of(result.test_set)
            if predictions is None or labels is None:
                return None, True
            if predictions.shape != labels.shape:
                raise CorruptFile(f"{stage.predictions} is not of its test set's items")
        except FileNotFoundError:
            return None, True
        except CorruptFile as error:
            self._left_out.add(stage.predictions, BadRecord(str(error)))
            return None, True
        except StoreError as error:
            return None, self._left_out.add(stage.predictions, error)
        return (stage.key, result.test_set, _bits(predictions == labels)), True

    def _labels_of(self, test_set: str) -> Array | None:
        """Return a test set's labels, uint16 [items]; None where the store has none."""
        import numpy

        if test_set not in self._labels:
            sql = "SELECT labels FROM labels WHERE test_set = $1"
            found = first_column(self._connection, sql, [test_set])
            self._labels[test_set] = numpy.array(found[0], numpy.uint16) if found else None
        return self._labels[test_set]


def _bits(right: Array) -> str | bytes:
    """Return bools as what DuckDB takes for a BIT: bytes where they are whole, which take a third of the time."""
    import numpy

    if len(right) % 8 == 0:
        return numpy.packbits(right).tobytes()
    return (right.astype(numpy.uint8) + ord("0")).tobytes().decode()
