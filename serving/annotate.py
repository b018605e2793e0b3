"""Let an LLM expert name the skills that questions need, as the skill router learns from them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pandas as pd

from data.records import Call, CounterpointError, Message, Sampling
from experts.pool import ExpertPool

LONGEST = 20
"""Characters of a keyword at most; longer ones are sentences."""

PROMPT = (
    "Name the two to five skills or fields of knowledge that somebody needs to answer the question below. "
    "Answer with one line that begins with Keywords: and lists them, separated by commas. Don't answer the question.\n\n"
    "Question: {question}"
)


def keywords_of_reply(text: str) -> list[str]:
    """Read the keywords of a reply: what follows "Keywords:", in lower case, without what is too long.

    Example:
        >>> keywords_of_reply("Keywords: Algebra, number theory., a very long description of it all")
        ['algebra', 'number theory']
    """
    _, found, rest = text.partition("Keywords:")
    words = [word.strip(" .*-\t").lower() for word in (rest if found else "").splitlines()[:1] for word in word.split(",")]
    return [word for word in dict.fromkeys(words) if word and len(word) <= LONGEST]


async def annotate(
    pool: ExpertPool, expert: str, table: pd.DataFrame, rounds: int, tick: Callable[[int, int], None] = lambda done, total: None
) -> pd.DataFrame:
    """Ask an expert several times for the skills of every question, and keep what it named more than once.

    Args:
        pool: A started pool.
        expert: Who is asked, at temperature 0.7 with a seed of its own each time.
        table: A score table.
        rounds: Times that each question is asked; with one, everything named is kept.
        tick: Told of questions done and their total.

    Returns:
        The table with a column `keywords`, separated by `;`, empty where nothing was named twice.

    Raises:
        CounterpointError: The expert answered nothing at all.

    Source:
        Chen et al. 2025, Symbolic Mixture-of-Experts, arXiv:2503.05641 (five rounds, counted); the wording is ours.
    """
    queries = table.drop_duplicates("query_id")[["query_id", "query"]].reset_index(drop=True)
    done, answered, failure = 0, 0, ""

    async def one(query_id: str, query: str) -> str:
        nonlocal done, answered, failure
        message = (Message("user", PROMPT.format(question=query)),)
        calls = [Call(f"{query_id}/keywords/{n}", expert, message, Sampling(64, 0.7, seed=n), batch=True) for n in range(rounds)]
        answers = await asyncio.gather(*(pool.answer(call) for call in calls))
        counts = Counter(word for answer in answers if answer.error is None for word in keywords_of_reply(answer.text))
        answered += sum(answer.error is None for answer in answers)
        failure = next((answer.error for answer in answers if answer.error is not None), failure)
        done += 1
        tick(done, len(queries))
        return ";".join(word for word, count in counts.most_common() if count >= min(2, rounds))

    found = await asyncio.gather(*(one(*row) for row in queries.itertuples(index=False)))
    if not answered:
        raise CounterpointError(f"{expert!r} answered none of {rounds * len(queries)} calls: {failure}")
    return table.assign(keywords=table["query_id"].map(dict(zip(queries["query_id"], found, strict=True))))
