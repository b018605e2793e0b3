import csv
import importlib.util
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.benchmarks import PROMPTS, SPECS, BenchmarkError, check, leave_out, load, suite
from data.benchmarks.choosing import same_text
from data.benchmarks.loading import load_spec
from data.graders import CODE, PAIRWISE, grade
from data.sandbox import why_not
from data.skills import generate
from data.tasks import write_tasks

MAKERS: dict[str, Any] = {  # rows in each source's own columns
    "mmlu-pro": lambda at: {
        "question_id": at, "question": f"Which is number {at}?", "options": [f"no {at}", f"yes {at}", "N/A"], "answer": "B",
        "answer_index": 1, "cot_content": "", "category": ["law", "physics", "physics"][at % 3], "src": "x",
    },
    "gpqa": lambda at: {
        "Record ID": f"rec{at}", "Question": f"What is {at}?", "Correct Answer": f"right {at}", "Incorrect Answer 1": f"a {at}",
        "Incorrect Answer 2": f"b {at}", "Incorrect Answer 3": f"c {at}", "High-level domain": "Physics", "Subdomain": "Optics",
    },
    "medmcqa": lambda at: {
        "id": f"m{at}", "question": f"Which drug {at}?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": at % 4,
        "subject_name": "Anatomy", "topic_name": "x", "exp": "y", "choice_type": "single",
    },
    "aime": lambda at: {"id": at, "problem": f"Find {at}.", "solution": "...", "answer": f"{at:03d}", "url": "u", "year": "2024"},
    "gsm8k": lambda at: {"question": f"Add {at} and 1.", "answer": f"{at} + 1 = <<{at}+1={at + 1}>>{at + 1}\n#### {at + 1}"},
    "math-500": lambda at: {
        "problem": f"Halve {at}.", "solution": "...", "answer": rf"\frac{{{at}}}{{2}}", "subject": "Algebra", "level": 1,
        "unique_id": f"test/{at}.json",
    },
    "arc-challenge": lambda at: {
        "id": f"arc{at}", "question": f"What floats {at}?", "choices": {"text": ["lead", "wood"], "label": ["1", "2"]}, "answerKey": "2",
    },
    "bbh": lambda at: {"input": f"not ( {at} ) is", "target": "True"},
    "humaneval": lambda at: {
        "task_id": f"HumanEval/{at}", "prompt": f'def plus(a):\n    """Add {at}."""\n', "canonical_solution": f"    return a + {at}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {1 + at}\n", "entry_point": "plus",
    },
    "mbpp": lambda at: {
        "task_id": at, "prompt": f"Write a function that adds {at}.", "code": f"def plus(a):\n    return a + {at}", "test_imports": [],
        "test_list": [f"assert plus(1) == {1 + at}", f"assert plus(2) == {2 + at}"],
    },
    "alpaca": lambda at: {
        "instruction": f"Greet person {at}.", "output": "Hello!", "generator": "g", "dataset": ["helpful", "koala"][at % 2],
    },
}  # fmt: skip


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            sheet = csv.DictWriter(file, list(rows[0]))
            sheet.writeheader()
            sheet.writerows(
                {name: json.dumps(cell) if isinstance(cell, list | dict) else cell for name, cell in row.items()} for row in rows
            )
    return path


def made(name: str, count: int, start: int = 1) -> list[dict[str, Any]]:
    return [MAKERS[name](at) for at in range(start, start + count)]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
@pytest.mark.parametrize("name", SPECS)
def test_every_benchmark_is_read_from_a_file_in_its_sources_columns(tmp_path: Path, name: str, ending: str) -> None:
    loaded = load(name, path=write(tmp_path / f"test{ending}", made(name, 3)))
    assert len({task.query_id for task in loaded.tasks}) == len(loaded.tasks) == loaded.total == 3
    assert all(task.query and task.answer and task.category and task.split == "test" for task in loaded.tasks)
    assert loaded.version == f"{SPECS[name].prompt}-{PROMPTS[SPECS[name].prompt].version}"


GIVEN = {
    "mmlu-pro": "The answer is (B).", "medmcqa": "The answer is (B).", "aime": "\\boxed{1}", "gsm8k": "The answer is 2.",
    "math-500": "\\boxed{0.5}", "arc-challenge": "The answer is (B).", "bbh": "The answer is True.",
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_the_right_answer_in_the_form_asked_for_is_right(tmp_path: Path, name: str) -> None:
    (task,) = load(name, path=write(tmp_path / "test.jsonl", made(name, 1))).tasks
    assert grade(task.grader, GIVEN[name], task.answer)
    assert not grade(task.grader, "The answer is (A). \\boxed{7}", task.answer)


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_the_sources_own_solution_passes_and_another_does_not(tmp_path: Path, name: str) -> None:
    (task,) = load(name, path=write(tmp_path / "test.parquet", made(name, 1))).tasks
    assert grade(task.grader, "```python\ndef plus(a):\n    return a + 1\n```", task.answer, allow_code=True)
    assert not grade(task.grader, "```python\ndef plus(a):\n    return a + 2\n```", task.answer, allow_code=True)


def test_questions_that_cannot_be_graded_are_refused_before_they_are_asked(tmp_path: Path) -> None:
    programs = load("humaneval", path=write(tmp_path / "a" / "test.jsonl", made("humaneval", 1))).tasks
    pairs = load("alpaca", path=write(tmp_path / "b" / "eval.jsonl", made("alpaca", 1))).tasks
    assert (programs[0].grader, pairs[0].grader, pairs[0].query) == (CODE, PAIRWISE, "Greet person 1.")
    with pytest.raises(BenchmarkError, match=r"runs programs that experts wrote: allow it \(allow_code"):
        check(programs)
    with pytest.raises(BenchmarkError, match="needs a judge"):
        check([*pairs, *programs], allow_code=True)
    check(pairs, judge=True)


def test_options_stand_in_the_order_of_the_source(tmp_path: Path) -> None:
    (task,) = load("mmlu-pro", path=write(tmp_path / "test.parquet", made("mmlu-pro", 1))).tasks
    assert task.query.endswith("Which is number 1?\n\nA. no 1\nB. yes 1\nC. N/A")


def test_gpqas_options_are_put_in_an_order_of_the_seeds(tmp_path: Path) -> None:
    path = write(tmp_path / "gpqa_diamond.csv", made("gpqa", 40))
    tasks = load("gpqa", path=path, seed=1).tasks
    for at, task in enumerate(tasks, start=1):
        assert f"{task.answer}. right {at}" in task.query
    assert set(Counter(task.answer for task in tasks)) == set("ABCD")
    assert tasks == load("gpqa", path=path, seed=1).tasks
    assert [task.answer for task in tasks] != [task.answer for task in load("gpqa", path=path, seed=2).tasks]


def test_bbh_has_its_tasks_as_categories_each_with_a_grader_for_its_answers(tmp_path: Path) -> None:
    write(tmp_path / "boolean_expressions.jsonl", made("bbh", 2))
    write(tmp_path / "word_sorting" / "test.jsonl", [{"input": "Sort the following words alphabetically: List: b a", "target": "a b"}])
    write(tmp_path / "object_counting.jsonl", [{"input": "I have 2 owls. How many?", "target": "2"}])
    write(tmp_path / "geometric_shapes.jsonl", [{"input": "Which? (A) x (K) y", "target": "(K)"}])
    told = {task.category: (task.grader, task.answer) for task in load("bbh", path=tmp_path).tasks}
    assert told == {
        "boolean_expressions": ("exact", "True"),
        "word_sorting": ("list", "a, b"),
        "object_counting": ("number", "2"),
        "geometric_shapes": ("option", "(K)"),
    }
    assert grade("list", "The answer is a b.", "a, b")
    assert grade("option", "The answer is (K).", "(K)")


def test_a_folder_is_read_by_split_and_configuration(tmp_path: Path) -> None:
    for split, start in (("train", 1), ("test", 11)):
        write(tmp_path / "main" / f"{split}-00000-of-00001.parquet", made("gsm8k", 3, start))
        write(tmp_path / "socratic" / f"{split}-00000-of-00001.parquet", made("gsm8k", 3, start + 50))
    (tmp_path / "README.md").write_text("x")
    assert [task.answer for task in load("gsm8k", path=tmp_path).tasks] == ["12", "13", "14"]
    assert [task.answer for task in load("gsm8k", path=tmp_path / "main", split="train").tasks] == ["2", "3", "4"]


def test_what_datasets_saved_is_read_without_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    test, train = datasets.Dataset.from_list(made("mmlu-pro", 3)), datasets.Dataset.from_list(made("mmlu-pro", 2, 10))
    test.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"test": test, "validation": train}).save_to_disk(tmp_path / "both")
    written = write(tmp_path / "test.jsonl", made("mmlu-pro", 3))
    assert load("mmlu-pro", path=tmp_path / "one").tasks == load("mmlu-pro", path=written).tasks
    assert load("mmlu-pro", path=tmp_path / "both").tasks == load("mmlu-pro", path=written).tasks
    assert len(load("mmlu-pro", path=tmp_path / "both", split="train").tasks) == 2


def test_without_a_path_the_rows_come_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "hub" / "test.jsonl", made("gsm8k", 3))
    write(tmp_path / "hub" / "train.jsonl", made("gsm8k", 2, 10))
    datasets.disable_progress_bars()
    spec = replace(SPECS["gsm8k"], hub=str(tmp_path / "hub"), configs=())
    loaded = load_spec(spec, None, "test", None, 0, 1)
    assert [task.answer for task in loaded.tasks] == ["2", "3", "4"]
    assert "#" not in loaded.tasks[0].query
    assert "Examples:" in loaded.tasks[0].query
    assert loaded.source.startswith(str(tmp_path / "hub"))


def test_what_is_not_there_is_one_line_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchmarkError) as caught:
        load("gpqa", path=tmp_path / "absent")
    assert str(caught.value) == (
        f"gpqa: nothing at {tmp_path / 'absent'}; accept its terms at https://huggingface.co/datasets/Idavidrein/gpqa and log in (hf auth "
        "login); with the extra counterpoint-server[benchmarks] it is read from the hub, else download Idavidrein/gpqa gpqa_diamond "
        "(https://huggingface.co/datasets/Idavidrein/gpqa) and give the folder as the path"
    )
    with pytest.raises(BenchmarkError, match=r"gsm8k: no file of the split 'test' below .* \(such as test.jsonl\); with the extra"):
        load("gsm8k", path=tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "datasets" else found(name, *rest))
    with pytest.raises(BenchmarkError, match="gsm8k: the library datasets is not installed; with the extra"):
        load("gsm8k")


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    spec = replace(SPECS["gsm8k"], hub=str(tmp_path / "absent"), configs=())
    with pytest.raises(BenchmarkError, match=r"^gsm8k: \w+: .*; with the extra") as caught:
        load_spec(spec, None, "test", None, 0, 0)
    assert "\n" not in str(caught.value)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("gsm8k", {"answer": "42"}, "line 2, column answer: wanted a number after ####; found '42'"),
    ("gsm8k", {"question": "  "}, "line 2, column question: empty"),
    ("mmlu-pro", {"options": "none"}, "line 2, column options: wanted a list; found 'none'"),
    ("mmlu-pro", {"answer": "F"}, "line 2, column answer: wanted a letter from A to C, not 'F'"),
    ("medmcqa", {"cop": -1}, "line 2, column cop: wanted a place from 0, not -1; found '-1'"),
    ("aime", {"answer": "1000"}, "line 2, column answer: wanted a whole number from 0 to 999, not '1000'; found '1000'"),
    ("arc-challenge", {"answerKey": "9"}, "line 2, column choices and answerKey: wanted one of 1, 2, not '9'; found "),
    ("mbpp", {"test_list": ["assert other(1)"]}, "line 2, column test_list and code and test_imports: wanted tests that call a function "),
]


@pytest.mark.parametrize(("name", "cells", "message"), BAD)
def test_a_bad_cell_is_named_by_file_line_and_column(tmp_path: Path, name: str, cells: dict[str, Any], message: str) -> None:
    first, second = made(name, 2)
    path = write(tmp_path / "test.jsonl", [first, second | cells])
    with pytest.raises(BenchmarkError) as caught:
        load(name, path=path)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_a_missing_column_and_broken_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", [{"question": "x"}])
    with pytest.raises(BenchmarkError, match="line 1, column answer: missing; wanted question, answer, found question"):
        load("gsm8k", path=path)
    path.write_text('{"question": "x"\n')
    with pytest.raises(BenchmarkError, match=r"test.jsonl, line 1: no JSON: "):
        load("gsm8k", path=path)
    (tmp_path / "test.parquet").write_text("no table")
    with pytest.raises(BenchmarkError, match=r"test.parquet cannot be read as parquet: "):
        load("gsm8k", path=tmp_path / "test.parquet")
    (tmp_path / "test.txt").write_text("")
    with pytest.raises(BenchmarkError, match=r"gsm8k: wanted a file ending in .jsonl, "):
        load("gsm8k", path=tmp_path / "test.txt")


def test_unknown_names_splits_and_limits_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", made("gsm8k", 2))
    for name, options, message in (
        ("gsm9k", {}, "no benchmark is called 'gsm9k'; there are mmlu-pro, gpqa, "),
        ("gsm8k", {"path": path, "split": "tune"}, "gsm8k has no split 'tune'; it has train, test"),
        ("gsm8k", {"path": path, "limit": 0}, "the limit must be 1 or more, not 0"),
        ("gsm8k", {"path": path, "shots": -1}, "shots must be 0 or more, not -1"),
        ("gsm8k", {"path": path, "shots": 2}, "gsm8k: 2 examples come from train, and there is no 'train' split at "),
        ("math-500", {"path": write(tmp_path / "m" / "test.jsonl", made("math-500", 2)), "shots": 2}, "math-500 has no train split"),
        ("skills:music", {}, "no family of skills is called 'music'; there are arithmetic, "),
        ("skills", {"shots": 1}, "skills is asked as it is written: it takes no examples"),
    ):
        with pytest.raises(BenchmarkError, match=message):
            load(name, **options)  # type: ignore[arg-type]


def test_what_stands_twice_or_in_test_as_well_is_dropped_and_counted(tmp_path: Path) -> None:
    test, train = made("gsm8k", 5), made("gsm8k", 6, 4)  # 4 and 5 stand in both
    again = test[0] | {"question": "  ADD 1 and\n1. "}
    write(tmp_path / "test.jsonl", [*test, again])
    write(tmp_path / "train.jsonl", [*train, train[-1]])
    asked, fitted = load("gsm8k", path=tmp_path), load("gsm8k", path=tmp_path, split="train")
    assert (len(asked.tasks), dict(asked.dropped)) == (5, {"twice": 1, "in_test": 0})
    assert (len(fitted.tasks), dict(fitted.dropped)) == (4, {"twice": 1, "in_test": 2})


def test_the_same_question_with_other_options_is_another_one(tmp_path: Path) -> None:
    rows = made("mmlu-pro", 2)
    rows[1]["question"] = rows[0]["question"]
    assert load("mmlu-pro", path=write(tmp_path / "test.jsonl", rows)).dropped["twice"] == 0


@pytest.mark.parametrize("shots", [1, 3])
def test_examples_are_from_train_and_never_a_question_of_test(tmp_path: Path, shots: int) -> None:
    test, train = made("gsm8k", 5), made("gsm8k", 8)  # five of the eight are test questions
    write(tmp_path / "test.jsonl", [row | {"question": row["question"].upper()} for row in test])
    write(tmp_path / "train.jsonl", train)
    loaded = load("gsm8k", path=tmp_path, shots=shots, limit=2)
    asked = set(same_text(row["question"] for row in test))
    for task in loaded.tasks:
        head, _, _ = task.query.partition("Now yours.")
        shown = [line.removeprefix("Question: ") for line in head.splitlines() if line.startswith("Question: ")]
        assert len(shown) == shots
        assert asked.isdisjoint(same_text(shown))
        assert "<<" not in head
    assert loaded.version == f"word-problem-1, {shots} examples"
    with pytest.raises(BenchmarkError, match="gsm8k has 3 questions in train that are not asked; wanted 4 examples"):
        load("gsm8k", path=tmp_path, shots=4)


def test_examples_are_of_the_questions_category_where_it_has_enough(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", made("mmlu-pro", 6))
    write(tmp_path / "validation.jsonl", made("mmlu-pro", 9, 30))
    for task in load("mmlu-pro", path=tmp_path, shots=2).tasks:
        shown = [int(line.split()[-1][:-1]) for line in task.query.splitlines() if line.startswith("Question: Which is number ")]
        assert len(shown) == 2
        assert {["law", "physics", "physics"][at % 3] for at in shown} == {task.category}


def test_a_part_is_stratified_and_the_seeds(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", made("mmlu-pro", 90))
    some = load("mmlu-pro", path=path, limit=30, seed=3)
    assert Counter(task.category for task in some.tasks) == {"physics": 20, "law": 10}
    assert (len(some.tasks), some.total) == (30, 90)
    assert some.tasks == load("mmlu-pro", path=path, limit=30, seed=3).tasks != load("mmlu-pro", path=path, limit=30, seed=4).tasks
    assert len(load("mmlu-pro", path=path, limit=7).tasks) == 7


def test_our_families_are_chosen_by_name_or_half() -> None:
    assert {task.category for task in load("skills").tasks} == {task.category for task in generate("test", 1)}
    assert {task.category for task in load("skills:arithmetic,dates", limit=5).tasks} == {"arithmetic", "dates"}
    first, second = ({task.category for task in load(f"skills:{half}", limit=10).tasks} for half in ("first-half", "second-half"))
    assert first
    assert second
    assert first.isdisjoint(second)


def test_a_file_of_ones_own_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    tasks = generate("test", 2)
    leaked = replace(tasks[0], query_id="leaked", split="train")
    write_tasks([*tasks, replace(tasks[0], query_id="again"), leaked, *generate("train", 1)], tmp_path / "tasks.jsonl")
    name = f"file:{tmp_path / 'tasks.jsonl'}"
    assert load(name).tasks == tasks
    assert dict(load(name).dropped) == {"twice": 1, "in_test": 0}
    assert load(name, split="train").dropped["in_test"] == 1
    (tmp_path / "bad.jsonl").write_text('{"query": "x"}')
    with pytest.raises(BenchmarkError, match=r"bad.jsonl, line 1: answer is missing"):
        load(f"file:{tmp_path / 'bad.jsonl'}")
    with pytest.raises(BenchmarkError, match=r"tasks.jsonl has no questions in tune; it has test, train"):
        load(name, split="tune")


def test_the_questions_of_a_score_table_keep_their_ids(tmp_path: Path) -> None:
    rows = [
        {"query_id": f"q{at}", "query": f"Q {at}", "expert": expert, "score": 1, "split": split, "category": kind, "answer": answer}
        for at, (split, kind, answer) in enumerate(
            [("test", "law", "C"), ("test", "sums", "12"), ("train", "law", "A"), ("test", "towns", "Oslo"), ("test", "law", "J")]
        )
        for expert in ("a", "b")
    ]
    path = write(tmp_path / "scores.parquet", rows)
    told = [(task.query_id, task.grader, task.answer) for task in load(f"scores:{path}").tasks]
    assert told == [("q0", "option", "C"), ("q1", "number", "12"), ("q3", "exact", "Oslo"), ("q4", "option", "J")]
    without = write(tmp_path / "without.parquet", [{name: cell for name, cell in row.items() if name != "answer"} for row in rows])
    with pytest.raises(BenchmarkError, match="has no column 'answer'"):
        load(f"scores:{without}")


def test_a_suite_weighs_benchmarks_and_not_questions() -> None:
    parts = [load("skills:dates", limit=6), load("skills:logic", limit=2)]
    both = suite(parts, {"skills:dates": 2, "skills:logic": 1})
    assert both.weights == {"skills:dates": pytest.approx(2 / 3 / 6), "skills:logic": pytest.approx(1 / 3 / 2)}
    assert sum(both.weights[part.name] * len(part.tasks) for part in parts) == pytest.approx(1)
    for weights in ({"skills:dates": 1}, {"skills:dates": 1, "skills:logic": 0}, {"skills:dates": 1, "skills:logic": 1, "x": 1}):
        with pytest.raises(BenchmarkError, match="weight"):
            suite(parts, weights)
    with pytest.raises(BenchmarkError, match="stands twice"):
        suite([parts[0], parts[0]])


def test_categories_out_of_distribution_are_left_out_of_fitting() -> None:
    tasks = load("skills:arithmetic,dates,logic", limit=9).tasks
    kept, out = leave_out(tasks, ["dates", "logic"])
    assert {task.category for task in kept} == {"arithmetic"}
    assert {task.category for task in out} == {"dates", "logic"}
    with pytest.raises(BenchmarkError, match=r"no question has the category 'datess'; did you mean 'dates'\?"):
        leave_out(tasks, ["datess"])
    with pytest.raises(BenchmarkError, match="nothing is left to fit on"):
        leave_out(tasks, ["arithmetic", "dates", "logic"])
