"""Recorded answers of a score table, looked up by question and expert."""

from __future__ import annotations

import pandas as pd

from data.records import Answer, CounterpointError, Usage
from data.scores import read_logprobs


class Recorded:
    """What experts once said, byte for byte.

    Args:
        table: A checked score table with a column `prediction` or `response`; where it has both, the response is the answer's
            text, and the prediction what it comes to. A column `logprobs` holds the log-probabilities of choices as JSON objects.

    Raises:
        CounterpointError: It has neither.

    Example:
        >>> row = {"query_id": "1", "query": "2 + 2?", "expert": "a", "score": 1.0, "response": "It is 4."}
        >>> Recorded(pd.DataFrame([row])).answer("1", "a").text
        'It is 4.'
    """

    def __init__(self, table: pd.DataFrame) -> None:
        columns = [name for name in ("response", "prediction") if name in table.columns]
        if not columns:
            raise CounterpointError("the score table holds no answers: it has neither a column prediction nor response")
        self._cells: dict[tuple[str, str], tuple[Answer, float]] = {}
        self._ids = dict(zip(table["query"], table["query_id"], strict=True))
        table = table.assign(**{name: 0 for name in ("prompt_tokens", "completion_tokens", "cost") if name not in table.columns})
        numbers = table[["prompt_tokens", "completion_tokens", "cost"]].fillna(0)
        for row, prompt, completion, cost in zip(table.to_dict("records"), *(numbers[name] for name in numbers), strict=True):
            text, parsed = (row[name] if isinstance(row[name], str) else "" for name in (columns[0], columns[-1]))
            usage = Usage(int(prompt), int(completion), float(cost), calls=1)
            told = read_logprobs(row.get("logprobs"))
            answer = Answer(text, str(row["expert"]), usage, parsed=parsed if len(columns) > 1 else None, logprobs=told)
            self._cells[str(row["query_id"]), str(row["expert"])] = answer, float(row["score"])

    def id_of(self, query: str) -> str | None:
        """The id of a question, by its text; None where it was never asked."""
        return self._ids.get(query)

    def answer(self, query_id: str, expert: str) -> Answer:
        """What an expert said; a failed answer where the table does not tell."""
        cell = self._cells.get((query_id, expert))
        return cell[0] if cell else Answer.failed(expert, "not recorded")

    def score(self, query_id: str, expert: str) -> float:
        """The score of what it said, 0 where the table does not tell."""
        cell = self._cells.get((query_id, expert))
        return 0.0 if cell is None else cell[1]
