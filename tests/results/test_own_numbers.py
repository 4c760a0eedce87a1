"""A file of one's own published numbers: read, refused with the place, and paired like with like."""

import contextlib
import csv
import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunectl.errors import DataError, MissingData
from prunectl.results.compare import compare, match
from prunectl.results.own_numbers import FIELDS, own_numbers
from prunectl.results.pairing import NOT_STATED
from prunectl.results.samples import measured, published
from prunectl.store.db import query
from prunectl.store.db.ingest import ingest
from tests.support.fake_store import FakeStore

HEAD = "network,dataset,method,sparsity,median"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """ResNet-20 pruned iteratively by two strategies, of which one is the plan's own."""
    made = FakeStore(tmp_path_factory.mktemp("store"))
    made.plan("mine", strategies=("lr-rewind", "slow@12ab34"), sparsities=("0.2", "0.36"))
    made.finish_all()
    ingest(made.paths)
    return made.paths


def write(folder, text):
    file = folder / "mine.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_table_of_a_publication_is_such_a_file(store, tmp_path):
    """What stands in `published`, written as CSV, gives the same samples as the table itself."""
    found = query.run(
        store, "SELECT * FROM published WHERE source = 'renda2020' AND metric = 'top1' ORDER BY ALL"
    )
    file = tmp_path / "renda.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(found.columns)
        writer.writerows(found.rows)
    theirs = [each for each in published(store, "renda2020") if each.network != "gnmt"]
    own = own_numbers(file)

    def plain(samples):
        kept = [dataclasses.replace(each, label="", n=0) for each in samples]
        return sorted(kept, key=repr)

    assert len(own) > 2000
    assert plain(own) == plain(theirs)


@pytest.fixture(scope="module")
def lines(store):
    """A file with the numbers of the store itself."""
    out = [f"{HEAD},dense,schedule,prune_step,n,low,high,band,retrain_epochs,criterion,scope"]
    for each in measured(store):
        out.append(
            f"{each.network},{each.dataset},{each.strategy},{each.sparsity!r},{each.median!r},{each.dense!r},"
            f"{each.kind},{each.prune_step or ''},{each.n},{each.low!r},{each.high!r},min-max,{each.retrain_epochs!r},"
            f"{each.criterion},{each.scope}"
        )
    return out


def test_ones_own_numbers_beside_themselves_differ_by_nothing(store, lines, tmp_path):
    file = write(tmp_path, "\n".join(lines))
    found = compare(store, str(file))
    ours = measured(store)
    assert {point.ours.cell for point in found.points} == {each.cell for each in ours}
    assert {point.ours.strategy for point in found.points} == {"lr-rewind", "slow@12ab34"}
    assert all(abs(p.ours.delta - p.theirs.delta) < 1e-9 for p in found.points)
    assert found.near_misses == {NOT_STATED: len(ours)}
    assert found.claims == ()


def test_a_strategy_is_found_by_its_name_in_the_plan(store, lines, tmp_path):
    file = write(tmp_path, "\n".join(lines).replace("slow@12ab34", "slow"))
    assert len(compare(store, str(file)).points) == len(measured(store))


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("recipe", "another", "trained by {recipe}, not by another"),
        ("criterion", "random", "pruned by magnitude, theirs by random"),
        ("scope", "layerwise", "scope global, theirs layerwise"),
        ("schedule", "one-shot", "schedule not in the publication for this network"),
        ("structure", "structured", "kind of pruning not in the publication"),
        ("network", "resnet-32", "network and data set not in the publication"),
    ],
)
def test_unlike_is_not_paired_and_told_why(store, lines, tmp_path, column, value, why):
    rows = list(csv.DictReader(lines))
    changed = [row | {column: value} for row in rows]
    file = tmp_path / "mine.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(changed[0]))
        writer.writeheader()
        writer.writerows(changed)
    found = compare(store, str(file))
    assert found.points == ()
    expected = why.format(recipe=measured(store)[0].recipe)
    assert all(expected in told for _, told in found.unmatched)


def test_a_stated_recipe_that_is_ours_is_no_near_miss(store, lines):
    ours = measured(store)
    theirs = [dataclasses.replace(each, seeds={}, cell=None) for each in ours]
    found = match("mine.csv", ours, theirs)
    assert len(found.points) == len(ours)
    assert found.near_misses == {}


def test_the_dense_network_may_be_a_line(tmp_path):
    file = write(
        tmp_path,
        f"{HEAD},mean,n\nresnet-20,cifar10,dense,0,91.5,91.4,3\nresnet-20,cifar10,fine-tune,.8,90,,\n",
    )
    [sample] = own_numbers(file)
    assert (sample.dense, sample.sparsity, sample.median, sample.n) == (91.4, 0.8, 90.0, 1)
    assert sample.delta == pytest.approx(-1.4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "mine.csv:1: no column network and no column dataset"),
        ("network,dataset,metod,sparsity,median\n", "mine.csv:1: unknown column 'metod'; allowed: network, "),
        ("network,dataset,metod,sparsity,median\n", "did you mean 'method'?"),
        ("network,network,dataset,method,sparsity,median\n", "mine.csv:1: column network twice"),
        ("network,dataset,method,sparsity\n", "neither a column median nor a column mean"),
        (f"{HEAD}\n", "mine.csv: no pruned network in it"),
        (f"{HEAD}\nr,c,dense,0,90\n", "mine.csv: no pruned network in it"),
        (f"{HEAD}\nr,c,m,0.8,90\n", "mine.csv:2: no dense network to take the change from"),
        (f"{HEAD}\nr,c,dense,0,90\nr,c,m,80,90\n", "mine.csv:3: sparsity: found '80'; allowed: a fraction, from 0"),
        (f"{HEAD}\nr,c,m,nan,90\n", "mine.csv:2: sparsity: found 'nan'"),
        (f"{HEAD}\nr,c,m,0.8,0x1\n", "mine.csv:2: median: found '0x1'; allowed: percent, 0 to 100"),
        (f"{HEAD}\nr,c,m,0.8,\n", "mine.csv:2: neither median nor mean"),
        (f"{HEAD}\n,c,m,0.8,9\n", "mine.csv:2: nothing under network"),
        (f"{HEAD}\nr,c,m,0.8\n", "mine.csv:2: fewer fields than the heading has"),
        (f"{HEAD}\nr,c,m,0.8,9,9\n", "mine.csv:2: more fields than the heading has"),
        (f'{HEAD}\nr,c,"m,0.8,9\n', "mine.csv:1: no CSV: unexpected end of data"),
        (f"{HEAD},metric\nr,c,m,0.8,9,bleu\n", "metric: found 'bleu'; allowed: top1"),
        (f"{HEAD},schedule\nr,c,m,0.8,9,once\n", "schedule: found 'once'; allowed: one-shot, iterative, dense"),
        (f"{HEAD},low,high\nr,c,m,0.8,9,10,11\n", "low 10, centre 9 and high 11 are not in order"),
        (f"{HEAD}\nr,c,dense,0,90\nr,c,dense,0,91\n", "mine.csv:3: dense networks of r on c a second time"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(tmp_path, text, told):
    with pytest.raises(DataError) as error:
        own_numbers(write(tmp_path, text))
    assert told in str(error.value)


def test_what_is_no_file_or_no_text_is_told(tmp_path):
    with pytest.raises(MissingData, match="there is no such file"):
        own_numbers(tmp_path / "mine.csv")
    with pytest.raises(MissingData):
        own_numbers(tmp_path)
    (tmp_path / "mine.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a text in UTF-8"):
        own_numbers(tmp_path / "mine.csv")


@settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.lists(st.sampled_from(FIELDS), unique=True, max_size=8),
    st.lists(st.lists(st.text(max_size=6) | st.sampled_from(["0.5", "90", "dense", "m"]), max_size=14), max_size=4),
)  # fmt: skip
def test_any_content_is_read_or_refused(tmp_path, extra, rows):
    heading = [*HEAD.split(","), *(name for name in extra if name not in HEAD.split(","))]
    file = tmp_path / "mine.csv"
    with file.open("w", newline="", encoding="utf-8", errors="replace") as stream:
        csv.writer(stream).writerows([heading, *rows])
    with contextlib.suppress(DataError):
        assert own_numbers(file)
