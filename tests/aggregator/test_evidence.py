import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.evidence import Asked, Evidence
from aggregator.reading import WORDS
from data.records import Answer

NAMES = ["ann", "bob", "cid", "dee"]
SCORES = {"ann": 0.8, "bob": 0.6, "cid": 0.4, "dee": 0.2}
EXAM = "Which is it? A) 10 B) 20 C) 40 D) none of these"
OPEN = "What is 12 + 30?"
PLAIN = Evidence(NAMES, np.tile(np.array([[[0.0]], [[1.0]]]), (4, 1, 1, len(WORDS))).reshape(4, 2, len(WORDS)))


def asked(question: str, *texts: str | None, scores: dict[str, float] | None = None) -> Asked:
    answers = [Answer.failed(name, "gone") if text is None else Answer(text, name) for name, text in zip(NAMES, texts, strict=False)]
    return Asked.of(question, answers, SCORES if scores is None else scores)


def seen(question: str, *texts: str | None, evidence: Evidence = PLAIN, scores: dict[str, float] | None = None) -> list[dict[str, float]]:
    _, rows = evidence.rows(asked(question, *texts, scores=scores))
    return [dict(zip(evidence.names, row.tolist(), strict=True)) for row in rows]


def test_every_name_stands_once_and_every_row_has_as_many_numbers() -> None:
    assert len(set(PLAIN.names)) == len(PLAIN.names)
    for question, texts in ((OPEN, ("42", "43", "42")), (EXAM, ("A", "B", "B")), (OPEN, ()), (OPEN, (None, ""))):
        found, rows = PLAIN.rows(asked(question, *texts))
        assert rows.shape == (len(found), len(PLAIN.names))


def test_votes_are_counted_beside_the_strongest_other_one() -> None:
    first, other = seen(OPEN, "42", "It is 42.", "41", None)
    assert (first["backers"], first["backers_of_next"], first["share"]) == (2, 1, pytest.approx(2 / 3))
    assert (other["backers"], other["backers_of_next"], other["share"]) == (1, 2, pytest.approx(1 / 3))
    assert (first["score_sum"], first["score_sum_of_next"]) == (pytest.approx(1.4), pytest.approx(0.4))
    assert (first["score_max"], first["score_max_of_next"], first["score_mean"]) == (0.8, 0.4, pytest.approx(0.7))
    assert (first["asked"], first["distinct"], first["silent"]) == (4, 2, 1)
    assert (first["mean_of_all"], first["best_of_all"]) == (pytest.approx(0.5), 0.8)
    assert (first["first"], first["second"], other["first"], other["second"]) == (1, 1, 0, 0)
    assert [first[f"by_{name}"] for name in NAMES] == [1, 1, 0, 0]
    assert first["odds"] == pytest.approx(np.log(0.8 / 0.2) + np.log(0.6 / 0.4) + 4)
    assert first["odds_margin"] == pytest.approx(-other["odds_margin"])
    assert first["position"] == -1


def test_an_open_question_has_no_last_option() -> None:
    assert seen(OPEN, "42")[0]["last_option"] == 0


def test_a_letter_that_was_recorded_but_not_stated_is_a_weak_vote() -> None:
    answers = [Answer("Let me think", "ann", parsed="D"), Answer("The answer is (D).", "bob", parsed="D"), Answer("So it is D", "cid")]
    _, rows = PLAIN.rows(Asked.of(EXAM, answers, SCORES))
    row = dict(zip(PLAIN.names, rows[0].tolist(), strict=True))
    assert (row["backers"], row["weak"]) == (3, 2)
    assert (row["position"], row["last_option"], row["option_none"]) == (3, 1, 1)


def test_a_question_of_its_own_and_reasoning_that_ends_elsewhere_are_seen() -> None:
    rambling, straight = seen(
        EXAM, "So it is 20, the answer is (A).\nQuestion: What? The answer is (C).", "So it is 20, the answer is (B)."
    )
    assert (rambling["rambles"], rambling["contradicts_own_end"], rambling["agrees_with_own_end"]) == (1, 1, 0)
    assert (straight["rambles"], straight["contradicts_own_end"], straight["agrees_with_own_end"]) == (0, 0, 1)


def test_what_others_reason_speaks_for_an_answer_too() -> None:
    first, other = seen(EXAM, "So it is 20, the answer is (B).", "So it is 20, the answer is (A).")
    assert (first["own_number"], first["others_number"]) == (1, 0.5)
    assert (other["own_number"], other["others_number"]) == (0, 0)


def test_how_unusual_an_answer_is_is_told_beside_its_own_expert() -> None:
    lessons = [asked(OPEN, "42", "twelve and thirty make " * size + "42") for size in (5, 6, 7, 8)]
    evidence = Evidence.fit(lessons)
    assert evidence.experts == ["ann", "bob"]
    short, long = seen(OPEN, "42", "twelve and thirty make " * 6 + "41", evidence=evidence)
    assert abs(short["words_length"]) < 0.01
    assert abs(long["words_length"]) < 2
    swapped = Asked.of(OPEN, [Answer("42", "bob")], SCORES)
    assert evidence.rows(swapped)[1][0][evidence.names.index("words_length")] == -6


def test_an_expert_that_it_does_not_know_is_judged_by_the_mean_of_those_it_knows() -> None:
    evidence = Evidence.fit([asked(OPEN, "42", "the sum of both is 42")] * 3)
    _, rows = evidence.rows(Asked.of(OPEN, [Answer("42", "zoe"), Answer("41", "ann")], {"ann": 0.5}))
    row = dict(zip(evidence.names, rows[0].tolist(), strict=True))
    assert [row[f"by_{name}"] for name in evidence.experts] == [0, 0]
    assert (row["score_sum"], row["first"]) == (0, 0)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("scores", [{}, {"zoe": 0.5}, {"ann": 0.0, "bob": 1.0}])
def test_scores_may_be_missing_or_at_their_ends(scores: dict[str, float]) -> None:
    _, rows = PLAIN.rows(asked(OPEN, "42", "41", scores=scores))
    assert np.isfinite(rows).all()


def test_evidence_of_nobody_knows_nobody() -> None:
    evidence = Evidence.fit([])
    assert evidence.experts == []
    assert np.isfinite(evidence.rows(asked(OPEN, "42", "41"))[1]).all()


def test_the_first_answers_are_the_same_as_if_no_more_had_been_asked() -> None:
    whole = asked(EXAM, "A", "It is 20, so B", "B", "C")
    for count in range(5):
        cut, fresh = whole.first(count), asked(EXAM, *("A", "It is 20, so B", "B", "C")[:count])
        assert PLAIN.rows(cut)[0] == PLAIN.rows(fresh)[0]
        np.testing.assert_array_equal(PLAIN.rows(cut)[1], PLAIN.rows(fresh)[1])


@settings(deadline=None)
@given(st.permutations(range(4)), st.lists(st.sampled_from(["10", "A", "It is 20, so (B).", "C", "", "20"]), min_size=4, max_size=4))
def test_the_order_of_the_answers_changes_no_row(order: list[int], texts: list[str]) -> None:
    for question in (EXAM, OPEN):
        one = asked(question, *texts)
        other = replace(one, answers=[one.answers[at] for at in order], readings=[one.readings[at] for at in order])
        rows = {candidate.form: row for candidate, row in zip(*PLAIN.rows(one), strict=True)}
        turned = {candidate.form: row for candidate, row in zip(*PLAIN.rows(other), strict=True)}
        assert rows.keys() == turned.keys()
        for form, row in rows.items():
            np.testing.assert_allclose(turned[form], row, atol=1e-12)


HOSTILE = [
    "",
    " ",
    "\x00\x1b\u202e\ud83d",
    "1" + "0" * 400,
    "-1e400",
    "nan",
    "NaN inf -inf",
    "\u0661\u0662 \u00bd \u6570\u5b66",
    "A" * 5000,
]
TEN = "Which?\n" + "".join(f"{letter}) \n" for letter in "ABCDEFGHIJ")
QUESTIONS = [OPEN, EXAM, TEN, "", "word " * 20_000, EXAM.replace("10", "1" + "0" * 400).replace("20", "1e-300"), "\x00 A) \ud83d B) \u202e"]


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_hostile_texts_make_finite_rows_without_a_warning(question: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for at in range(len(HOSTILE)):
            texts = [*HOSTILE[at:], *HOSTILE[:at]][:4]
            assert np.isfinite(PLAIN.rows(asked(question, *texts))[1]).all()
            assert np.isfinite(Evidence.fit([asked(question, *texts)]).rows(asked(question, *texts))[1]).all()


@settings(max_examples=60, deadline=None)
@given(st.text(), st.lists(st.text(), max_size=4), st.dictionaries(st.sampled_from([*NAMES, "zoe"]), st.floats(0, 1)))
def test_any_question_and_answers_make_finite_rows(question: str, texts: list[str], scores: dict[str, float]) -> None:
    assert np.isfinite(PLAIN.rows(asked(question, *texts, scores=scores))[1]).all()


@pytest.mark.parametrize("piece", ["word ", "9", "1 ", "(A) ", "\n", "answer is "])
@pytest.mark.parametrize("question", [OPEN, EXAM], ids=["open", "options"])
def test_a_long_answer_takes_time_in_proportion_to_its_length(question: str, piece: str) -> None:
    PLAIN.rows(asked(question, "1"))
    start = time.process_time()
    PLAIN.rows(asked(question, piece * (400_000 // len(piece))))
    assert time.process_time() - start < 15  # a square of it would be minutes
