"""Recorded answers of a score table, looked up by question and expert."""

from __future__ import annotations

import pandas as pd

from data.records import Answer, CounterpointError, Usage


class Recorded:
    """What experts once said, byte for byte.

    Args:
        table: A checked score table with a column `prediction` or `response`.
        prefer: Which of the two is taken where the table has both.

    Raises:
        CounterpointError: It has neither.

    Example:
        >>> row = {"query_id": "1", "query": "2 + 2?", "expert": "a", "score": 1.0, "response": "It is 4."}
        >>> Recorded(pd.DataFrame([row])).answer("1", "a").text
        'It is 4.'
    """

    def __init__(self, table: pd.DataFrame, prefer: str = "prediction") -> None:
        columns = sorted({"prediction", "response"} & set(table.columns), key=lambda name: name != prefer)
        if not columns:
            raise CounterpointError("the score table holds no answers: it has neither a column prediction nor response")
        self._cells: dict[tuple[str, str], tuple[Answer, float]] = {}
        self._ids = dict(zip(table["query"], table["query_id"], strict=True))
        table = table.assign(**{name: 0 for name in ("prompt_tokens", "completion_tokens", "cost") if name not in table.columns})
        numbers = table[["prompt_tokens", "completion_tokens", "cost"]].fillna(0)
        for row, prompt, completion, cost in zip(table.to_dict("records"), *(numbers[name] for name in numbers), strict=True):
            text = row[columns[0]] if isinstance(row[columns[0]], str) else ""  # what was not parsed is no answer
            usage = Usage(int(prompt), int(completion), float(cost), calls=1)
            self._cells[str(row["query_id"]), str(row["expert"])] = Answer(text, str(row["expert"]), usage), float(row["score"])

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
