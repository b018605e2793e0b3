"""The wording of questions: our own, with versions that stand in results. A changed text is a new version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a kind of question is asked.

    Attributes:
        version: Counts up with every change of the text.
        text: What the expert reads; `{question}` and `{options}` are filled in.
        ends: How a worked example ends; `{answer}` is filled in.
    """

    version: int
    text: str
    ends: str = "The answer is {answer}."


PROMPTS = {
    "options": Prompt(
        1,
        "Answer this multiple-choice question. Think it through in a few sentences, then end with one line of the form "
        '"The answer is (X)." where X is the letter of your choice.\n\n{question}\n\n{options}',
        "The answer is ({answer}).",
    ),
    "word-problem": Prompt(
        1,
        "Solve this problem. Show your steps briefly, then end with one line of the form "
        '"The answer is N." where N is a number without a unit.\n\n{question}',
    ),
    "mathematics": Prompt(
        1,
        "Solve this problem. Show your steps, then end with the final answer alone, in its simplest form, in \\boxed{{}}.\n\n{question}",
        "\\boxed{{{answer}}}",
    ),
    "competition": Prompt(
        1,
        "Solve this problem. The answer is a whole number from 0 to 999. Show your steps, then end with the number in \\boxed{{}}."
        "\n\n{question}",
        "\\boxed{{{answer}}}",
    ),
    "short": Prompt(
        1,
        "Answer this question. Think it through in a few sentences, then end with one line of the form "
        '"The answer is X." where X is the answer alone, written as the question asks for it.\n\n{question}',
    ),
    "complete": Prompt(
        1,
        "Write the whole Python function that this begins, imports included, in one code block. Write no tests."
        "\n\n```python\n{question}\n```",
        "```python\n{answer}\n```",
    ),
    "function": Prompt(
        1,
        "Write a Python function, imports included, in one code block. Write no tests.\n\n{question}",
        "```python\n{answer}\n```",
    ),
    "plain": Prompt(1, "{question}", "{answer}"),
}
"""Each kind of question."""


def lettered(options: Sequence[str]) -> str:
    """Write options one a line, each with its letter.

    Example:
        >>> print(lettered(["Oslo", "Lima"]))
        A. Oslo
        B. Lima
    """
    return "\n".join(f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False))


def ask(name: str, question: str, options: Sequence[str] = (), examples: Sequence[str] = ()) -> str:
    """Write a question as an expert reads it, after worked examples.

    Args:
        name: Kind of question (`PROMPTS`).
        question: The question itself.
        options: Its options.
        examples: Worked examples (`example`).
    """
    asked = PROMPTS[name].text.format(question=question, options=lettered(options))
    if not examples:
        return asked
    return "\n\n".join(["Examples:", *examples, "Now yours.", asked])


def example(name: str, question: str, options: Sequence[str], answer: str, worked: str = "") -> str:
    """Write a worked example: the question, how it is solved where that is known, and its answer.

    Example:
        >>> print(example("word-problem", "2 + 2?", (), "4"))
        Question: 2 + 2?
        The answer is 4.
    """
    ended = PROMPTS[name].ends.format(answer=answer)
    lines = [f"Question: {question}", lettered(options), worked.strip(), ended]
    return "\n".join(line for line in lines if line)


def version(name: str, shots: int = 0) -> str:
    """Name a wording with its version and the number of examples, as results do.

    Example:
        >>> version("options"), version("options", 5)
        ('options-1', 'options-1, 5 examples')
    """
    return f"{name}-{PROMPTS[name].version}" + (f", {shots} examples" if shots else "")
