"""What each benchmark is: where it lies, what its columns mean, how it is asked and graded. One entry of `SPECS` is all that one takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from data.programs import program_answer


@dataclass(frozen=True, slots=True)
class Taken:
    """A field that is made out of columns.

    Attributes:
        columns: The columns it needs.
        make: Makes the value of the field out of theirs; a ValueError says what is wrong with them.
    """

    columns: tuple[str, ...]
    make: Callable[..., Any]


Source = str | Taken
"""A column by its name, or what is made out of several."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One benchmark.

    Attributes:
        name: What it is called here.
        hub: Its id on the model hub.
        splits: Our splits, each with the hub's name for it.
        fields: `question` and `answer`, and where it has them `id`, `options`, `category` and `worked` (a solution, for examples).
        grader: Name of the grader, or what chooses one for a question and its answer.
        prompt: Kind of question (`data.benchmarks.prompts`).
        configs: The hub's configurations; with several, each is a category.
        licence: Of the questions, as their page names it.
        gated: Whether the hub wants its terms accepted and a token first.
        converted: Whether the hub holds a loading script, beside which its converted files are read.
        shuffled: Whether the options are put in an order of the seed's (the source has the right one first).
    """

    name: str
    hub: str
    splits: Mapping[str, str]
    fields: Mapping[str, Source]
    grader: str | Callable[[str, str], str]
    prompt: str
    configs: tuple[str, ...] = ()
    licence: str = ""
    gated: bool = False
    converted: bool = False
    shuffled: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a file of it must have."""
        named = [(source,) if isinstance(source, str) else source.columns for name, source in self.fields.items() if name not in _MAYBE]
        return tuple(dict.fromkeys(column for columns in named for column in columns))


_MAYBE = ("id", "category", "worked")
"""Fields without which a question is still one."""


@dataclass(frozen=True, slots=True)
class Item:
    """A question as its source has it.

    Attributes:
        id: Its name in the source; empty where it has none.
        question: The text.
        answer: The right answer; of a question with options, its letter.
        options: The options, in order.
        category: Its subject.
        worked: A solution.
    """

    id: str
    question: str
    answer: str
    options: tuple[str, ...] = ()
    category: str = ""
    worked: str = field(default="", compare=False)


def texts(cell: object, least: int = 1) -> tuple[str, ...]:
    """Read a cell that holds a list; CSV and the like hold it as JSON.

    Args:
        cell: The cell.
        least: How many it must hold.

    Raises:
        ValueError: It is no list, or holds less.
    """
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            cell = None
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if not isinstance(cell, list | tuple) or len(cell) < least:
        raise ValueError("wanted a list")
    return tuple(str(one) for one in cell)


def letter(index: object) -> str:
    """Turn a place from 0 into a letter.

    Raises:
        ValueError: It is none.
    """
    place = int(float(str(index)))
    if not 0 <= place < 26:
        raise ValueError(f"wanted a place from 0, not {index!r}")
    return ascii_uppercase[place]


def after_hashes(text: object) -> str:
    """Take the number after the last `####`, without commas.

    Raises:
        ValueError: There is none.
    """
    _, found, number = str(text).rpartition("####")
    if not found or not re.fullmatch(r"-?\d[\d.]*", number := number.strip().replace(",", "").lstrip("$")):
        raise ValueError("wanted a number after ####")
    return number


def _choices(cell: object) -> dict[str, Any]:
    found = json.loads(cell) if isinstance(cell, str) else cell
    if not isinstance(found, dict) or {"text", "label"} - found.keys():
        raise ValueError("wanted an object with text and label")
    return found


def _key(cell: object, key: object) -> str:
    labels = texts(_choices(cell)["label"])
    if str(key) not in labels:
        raise ValueError(f"wanted one of {', '.join(labels)}, not {key!r}")
    return ascii_uppercase[labels.index(str(key))]  # some questions have 1 to 4


def _whole(number: object) -> str:
    value = float(str(number))
    if not value.is_integer() or not 0 <= value <= 999:
        raise ValueError(f"wanted a whole number from 0 to 999, not {number!r}")
    return str(int(value))


def _hard(question: str, answer: str) -> str:
    """The grader of a BIG-Bench Hard task, by its answers."""
    if re.fullmatch(r"\([A-R]\)", answer):
        return "option"
    if re.fullmatch(r"-?\d+", answer):
        return "number"
    return "list" if "," in answer else "exact"


def _target(target: object, question: object) -> str:
    text = str(target).strip()
    return ", ".join(text.split()) if str(question).startswith("Sort the following words") else text


def _checks(test: object, entry: object, before: object) -> str:
    return program_answer(str(before), str(entry), f"{test}\n\ncheck({entry})")


def _asserts(tests: object, code: object, imports: object) -> str:
    lines = texts(tests)
    names = re.findall(r"^def (\w+)", str(code), re.MULTILINE)
    called = [name for name in names if any(re.search(rf"\b{name}\b", line) for line in lines)]
    if not called:
        raise ValueError("wanted tests that call a function of the column code")
    return program_answer("", called[-1], "\n".join([*texts(imports, 0), *lines]))


def _said(text: object, tests: object) -> str:
    return f"{text}\nIt must pass this test:\n{texts(tests)[0]}"


_BBH = (
    "boolean_expressions causal_judgement date_understanding disambiguation_qa dyck_languages formal_fallacies geometric_shapes hyperbaton "
    "logical_deduction_five_objects logical_deduction_seven_objects logical_deduction_three_objects movie_recommendation "
    "multistep_arithmetic_two navigate object_counting penguins_in_a_table reasoning_about_colored_objects ruin_names "
    "salient_translation_error_detection snarks sports_understanding temporal_sequences tracking_shuffled_objects_five_objects "
    "tracking_shuffled_objects_seven_objects tracking_shuffled_objects_three_objects web_of_lies word_sorting"
).split()

_LISTED: Sequence[Spec] = (
    Spec(
        "mmlu-pro", "TIGER-Lab/MMLU-Pro", {"train": "validation", "test": "test"},
        {"id": "question_id", "question": "question", "options": Taken(("options",), texts), "answer": "answer", "category": "category"},
        "option", "options", licence="MIT",
    ),
    Spec(
        "gpqa", "Idavidrein/gpqa", {"test": "train"},
        {
            "id": "Record ID", "question": "Question",
            "options": Taken(
                ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
                lambda *options: tuple(str(one).strip() for one in options),
            ),
            "answer": Taken((), lambda: "A"), "category": "High-level domain",
        },
        "choice", "options", configs=("gpqa_diamond",), licence="CC-BY-4.0", gated=True, shuffled=True,
    ),
    Spec(
        "medmcqa", "openlifescienceai/medmcqa", {"train": "train", "test": "validation"},  # the source's test has no answers
        {
            "id": "id", "question": "question",
            "options": Taken(("opa", "opb", "opc", "opd"), lambda *options: tuple(map(str, options))),
            "answer": Taken(("cop",), letter), "category": "subject_name",
        },
        "choice", "options", licence="Apache-2.0",
    ),
    Spec(
        "aime", "HuggingFaceH4/aime_2024", {"test": "train"},
        {"id": "id", "question": "problem", "answer": Taken(("answer",), _whole), "category": "year"},
        "integer", "competition",
    ),
    Spec(
        "gsm8k", "openai/gsm8k", {"train": "train", "test": "test"},
        {
            "question": "question", "answer": Taken(("answer",), after_hashes),
            "worked": Taken(("answer",), lambda text: re.sub(r"<<[^<>]*>>", "", str(text).rpartition("####")[0])),
        },
        "number", "word-problem", configs=("main",), licence="MIT",
    ),
    Spec(
        "math-500", "HuggingFaceH4/MATH-500", {"test": "test"},
        {"id": "unique_id", "question": "problem", "answer": "answer", "category": "subject"},
        "math", "mathematics", licence="MIT",
    ),
    Spec(
        "arc-challenge", "allenai/ai2_arc", {"train": "train", "tune": "validation", "test": "test"},
        {
            "id": "id", "question": "question", "options": Taken(("choices",), lambda cell: texts(_choices(cell)["text"])),
            "answer": Taken(("choices", "answerKey"), _key),
        },
        "choice", "options", configs=("ARC-Challenge",), licence="CC-BY-SA-4.0",
    ),
    Spec(
        "bbh", "lukaemon/bbh", {"test": "test"},
        {"question": "input", "answer": Taken(("target", "input"), _target)},
        _hard, "short", configs=tuple(_BBH), licence="MIT", converted=True,
    ),
    Spec(
        "humaneval", "openai/openai_humaneval", {"test": "test"},
        {"id": "task_id", "question": "prompt", "answer": Taken(("test", "entry_point", "prompt"), _checks)},
        "code", "complete", licence="MIT",
    ),
    Spec(
        "mbpp", "google-research-datasets/mbpp", {"train": "train", "tune": "validation", "test": "test"},
        {
            "id": "task_id", "question": Taken(("prompt", "test_list"), _said),
            "answer": Taken(("test_list", "code", "test_imports"), _asserts), "worked": "code",
        },
        "code", "function", configs=("sanitized",), licence="CC-BY-4.0",
    ),
    Spec(
        "alpaca", "tatsu-lab/alpaca_eval", {"test": "eval"},
        {"question": "instruction", "answer": "output", "category": "dataset"},
        "pairwise", "plain", configs=("alpaca_eval_gpt4_baseline",), licence="CC-BY-NC-4.0", converted=True,
    ),
)  # fmt: skip
SPECS = {spec.name: spec for spec in _LISTED}
"""Every benchmark by its name."""
