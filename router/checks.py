"""What every router must satisfy; a new kind is done when it passes all of them.

Example:
    >>> from router import KNNRouter
    >>> check_scores_are_probabilities(KNNRouter, Path("unused"))
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from data.records import CounterpointError
from router import load_router
from router.base import BaseRouter

Make = Callable[[], BaseRouter]
"""Makes a router that is not fitted."""

EXPERTS = ("words", "sums", "both")
TEXTS = ("What is six plus one?", "Which word means glad?", "What is six plus one?", "", "a b c " * 40)
_SCORES = {
    "What is two plus three?": (0.0, 1.0, 1.0),
    "Add four and nine.": (0.25, 1.0, 0.5),
    "What is seven plus eight?": (0.0, 1.0, 0.0),
    "Add one and six.": (0.0, 1.0, 1.0),
    "What is nine plus ten?": (0.0, 0.75, 0.5),
    "Add three and five.": (0.0, 1.0, 0.0),
    "Spell the animal cat": (1.0, 0.0, 1.0),
    "Which word rhymes with house?": (1.0, 0.0, 0.75),
    "Spell the animal dog": (1.0, 0.0, 0.0),
    "Which word rhymes with tree?": (1.0, 0.25, 1.0),
    "Spell the animal horse": (1.0, 0.0, 0.0),
    "Which word means quick?": (0.5, 0.0, 1.0),
}


def table() -> pd.DataFrame:
    """Make a small score table."""
    return pd.DataFrame(
        [
            {"query_id": str(at), "query": query, "category": "sums" if at < 6 else "words", "expert": expert, "score": score}
            for at, (query, scores) in enumerate(_SCORES.items())
            for expert, score in zip(EXPERTS, scores, strict=True)
        ]
    )


def check_scores_are_probabilities(make: Make, folder: Path) -> None:
    """One row per text, one column per expert, each number from 0 to 1."""
    scores = make().fit(table()).scores(TEXTS)
    assert scores.shape == (len(TEXTS), len(EXPERTS)), f"the scores have shape {scores.shape}, not {(len(TEXTS), len(EXPERTS))}"
    assert not np.isnan(scores).any(), "some scores are NaN"
    assert ((scores >= 0) & (scores <= 1)).all(), f"scores lie from {scores.min()} to {scores.max()}, not from 0 to 1"


def check_no_texts_give_no_scores(make: Make, folder: Path) -> None:
    """An empty list is scored, too."""
    scores = make().fit(table()).scores([])
    assert scores.shape == (0, len(EXPERTS)), f"the scores of no texts have shape {scores.shape}, not {(0, len(EXPERTS))}"


def check_scores_do_not_depend_on_the_batch(make: Make, folder: Path) -> None:
    """A text's scores are the same to the last bit alone, beside others and in another order."""
    router = make().fit(table())
    together, turned = router.scores(TEXTS), router.scores(TEXTS[::-1])[::-1]
    for at, text in enumerate(TEXTS):
        alone = router.scores([text])[0]
        assert np.array_equal(alone, together[at]), f"the scores of {text[:30]!r} change when others are scored with it"
        assert np.array_equal(alone, turned[at]), f"the scores of {text[:30]!r} change with the order of the texts"


def check_experts_keep_the_order_of_the_table(make: Make, folder: Path) -> None:
    """The columns stand for the experts in the order in which the table names them."""
    turned = table().iloc[::-1]
    for rows, wanted in ((table(), EXPERTS), (turned, EXPERTS[::-1])):
        got = tuple(make().fit(rows).experts_)
        assert got == wanted, f"the experts are {got}, in the table {wanted}"
    if not make().learns:
        return
    sums = make().fit(table()).scores(["What is eight plus five?"])[0]
    assert sums[1] > sums[0], "an expert that was right on sums scores below one that was wrong on them"


def check_missing_cells_are_allowed(make: Make, folder: Path) -> None:
    """A query without an answer of some expert still counts for the others."""
    scores = make().fit(table().drop(index=[0, 4, 11])).scores(TEXTS)
    assert np.isfinite(scores).all(), "missing cells give scores that are no numbers"


def check_the_same_table_gives_the_same_router(make: Make, folder: Path) -> None:
    """Fitting is deterministic, and fitting again forgets what was fitted before."""
    first, again = make().fit(table()), make().fit(table().iloc[:3]).fit(table())
    assert np.array_equal(first.scores(TEXTS), again.scores(TEXTS)), "two routers fitted on one table give different scores"


def check_fitting_leaves_the_table_as_it_was(make: Make, folder: Path) -> None:
    """The caller's table is not written to."""
    rows = table()
    make().fit(rows)
    assert rows.equals(table()), "fitting changed the table"


def check_a_saved_router_comes_back_exactly(make: Make, folder: Path) -> None:
    """What is loaded has the same experts, scores and reasons, and saves to the same bytes."""
    router = make().fit(table())
    router.save(folder / "first")
    loaded = load_router(folder / "first")
    assert type(loaded) is type(router), f"a {type(router).__name__} came back as a {type(loaded).__name__}"
    assert loaded.experts_ == router.experts_, f"the experts came back as {loaded.experts_}"
    assert np.array_equal(loaded.scores(TEXTS), router.scores(TEXTS)), "the scores changed on their way through the disk"
    assert loaded.reasons(TEXTS[0]) == router.reasons(TEXTS[0]), "the reasons changed on their way through the disk"
    loaded.save(folder / "second")
    for file in sorted((folder / "first").iterdir()):
        assert file.read_bytes() == (folder / "second" / file.name).read_bytes(), f"{file.name} changes when it is saved again"


def check_an_artefact_holds_nothing_that_runs(make: Make, folder: Path) -> None:
    """An artefact is JSON and safetensors."""
    make().fit(table()).save(folder)
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["router.json", "weights.safetensors"], f"the artefact holds {files}"


def check_an_unfitted_router_is_refused(make: Make, folder: Path) -> None:
    """Before fit, scoring, reasons and saving say that fit is missing."""
    for use in (lambda: make().scores(TEXTS), lambda: make().reasons(TEXTS[0]), lambda: make().save(folder)):
        assert "not fitted" in _refusal(use), "an unfitted router does not say that it is not fitted"


def check_a_table_without_a_column_is_refused(make: Make, folder: Path) -> None:
    """The missing column is named."""
    for name in ("query_id", "query", "expert", "score"):
        rows = table().drop(columns=name)
        assert repr(name) in _refusal(partial(make().fit, rows)), f"a table without {name} is refused without naming it"


def check_an_expert_without_scores_is_refused(make: Make, folder: Path) -> None:
    """An expert whose scores are all missing cannot be routed to."""
    rows = table()
    rows.loc[rows["expert"] == "both", "score"] = np.nan
    _refusal(lambda: make().fit(rows))


def check_an_empty_table_is_refused(make: Make, folder: Path) -> None:
    """Nothing can be learned from no rows."""
    assert "no rows" in _refusal(lambda: make().fit(table().iloc[:0])), "an empty table is refused without saying that it is empty"


def check_a_damaged_artefact_is_refused(make: Make, folder: Path) -> None:
    """A changed byte, a missing file or a changed expert does not become a wrong route."""
    make().fit(table()).save(folder / "whole")
    for name in _damages(folder / "whole", folder / "damaged"):
        message = _refusal(lambda: load_router(folder / "damaged"))
        assert str(folder / "damaged") in message, f"an artefact with {name} is refused without its path: {message}"


def check_another_version_is_refused(make: Make, folder: Path) -> None:
    """An artefact of a version that is not known names both versions."""
    make().fit(table()).save(folder)
    head = json.loads((folder / "router.json").read_text(encoding="utf-8"))
    (folder / "router.json").write_text(json.dumps(head | {"version": 99}), encoding="utf-8")
    message = _refusal(lambda: load_router(folder))
    assert "99" in message, f"an artefact of another version is refused without naming it: {message}"
    assert str(head["version"]) in message, f"an artefact of another version is refused without the known one: {message}"


def check_a_folder_that_cannot_be_written_is_refused(make: Make, folder: Path) -> None:
    """Saving where a file stands names the path."""
    (folder / "file").write_text("", encoding="utf-8")
    router = make().fit(table())
    assert str(folder / "file") in _refusal(lambda: router.save(folder / "file")), "a path that cannot be written is not named"


def _refusal(act: Callable[[], object]) -> str:
    """What an act is refused with, one line for a person."""
    try:
        act()
    except CounterpointError as error:
        message = str(error)
    else:
        raise AssertionError("what should have been refused was done")
    assert "\n" not in message, f"the refusal has several lines: {message}"
    return message


def _damages(whole: Path, damaged: Path) -> Iterator[str]:
    """Damage a copy of an artefact in one way after another."""
    weights, text = (whole / "weights.safetensors").read_bytes(), (whole / "router.json").read_text(encoding="utf-8")
    head = json.loads(text)
    copies: dict[str, tuple[bytes | None, str | None]] = {
        "a changed byte": (weights[:-1] + bytes([weights[-1] ^ 1]), text),
        "half of the weights": (weights[: len(weights) // 2], text),
        "no weights": (None, text),
        "no router.json": (weights, None),
        "half of router.json": (weights, text[: len(text) // 2]),
        "a list for router.json": (weights, "[]"),
        "an expert less": (weights, json.dumps(head | {"experts": head["experts"][:-1]})),
        "two experts changed round": (weights, json.dumps(head | {"experts": head["experts"][::-1]})),
        "an unknown kind": (weights, json.dumps(head | {"kind": "astrology"})),
    }
    for key in head:
        copies[f"no {key}"] = (weights, json.dumps({name: value for name, value in head.items() if name != key}))
    for name, (data, heading) in copies.items():
        shutil.rmtree(damaged, ignore_errors=True)
        damaged.mkdir()
        if data is not None:
            (damaged / "weights.safetensors").write_bytes(data)
        if heading is not None:
            (damaged / "router.json").write_text(heading, encoding="utf-8")
        yield name


CHECKS: tuple[Callable[[Make, Path], None], ...] = (
    check_scores_are_probabilities,
    check_no_texts_give_no_scores,
    check_scores_do_not_depend_on_the_batch,
    check_experts_keep_the_order_of_the_table,
    check_missing_cells_are_allowed,
    check_the_same_table_gives_the_same_router,
    check_fitting_leaves_the_table_as_it_was,
    check_a_saved_router_comes_back_exactly,
    check_an_artefact_holds_nothing_that_runs,
    check_an_unfitted_router_is_refused,
    check_a_table_without_a_column_is_refused,
    check_an_expert_without_scores_is_refused,
    check_an_empty_table_is_refused,
    check_a_damaged_artefact_is_refused,
    check_another_version_is_refused,
    check_a_folder_that_cannot_be_written_is_refused,
)
"""Each check takes a maker of routers and an empty folder, and raises AssertionError with a sentence."""
