"""Evaluation runs at the endpoint: what there is, what each found, how two differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from counterpoint.pages import Page, listed, page_of, taken
from counterpoint.steps import Call, Flow, asked

if TYPE_CHECKING:
    from counterpoint.client import AsyncCounterpoint, Counterpoint


@dataclass(frozen=True, slots=True)
class System:
    """What one system reached in a run.

    Attributes:
        name: What it is called.
        score: Mean score of its answers.
        low: Lower end of the score's 95% interval.
        high: Upper end.
        calls: Calls of experts that it took.
        tokens: Tokens that these read and generated.
        usd: US dollars that they cost.
    """

    name: str
    score: float
    low: float
    high: float
    calls: float
    tokens: float
    usd: float


@dataclass(frozen=True, slots=True)
class Categories:
    """Mean scores by category.

    Attributes:
        categories: The rows.
        questions: Questions of each row.
        systems: The columns.
        scores: Row by row, None where nothing was measured.
    """

    categories: tuple[str, ...]
    questions: tuple[int, ...]
    systems: tuple[str, ...]
    scores: tuple[tuple[float | None, ...], ...]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Categories:
        """Read the wire's form."""
        scores = tuple(tuple(row) for row in body["scores"])
        return cls(tuple(body["categories"]), tuple(body["questions"]), tuple(body["systems"]), scores)


@dataclass(frozen=True, slots=True)
class Run:
    """An evaluation run.

    Attributes:
        id: Name of its folder.
        name: What it is called.
        created: When it ended, in seconds since 1970.
        benchmarks: What it measured on.
        questions: How many questions.
        systems: What each system reached.
        error: What of it cannot be read, or None; with a broken summary, nothing else is told.
        categories: Scores by category; told by `get` only, as the two below.
        report: The report in Markdown.
        links: Paths of the report at the endpoint, by `md` and `html`.
    """

    id: str
    name: str = ""
    created: float = 0.0
    benchmarks: tuple[str, ...] = ()
    questions: int = 0
    systems: tuple[System, ...] = ()
    error: str | None = None
    categories: Categories | None = None
    report: str | None = None
    links: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Run:
        """Read the wire's form."""
        if "systems" not in body:
            return cls(body["id"], error=body["error"])
        return cls(
            body["id"],
            body["name"],
            float(body["created"]),
            tuple(body["benchmarks"]),
            int(body["questions"]),
            tuple(taken(System, each) for each in body["systems"]),
            body["error"],
            Categories.of(body["categories"]) if body.get("categories") else None,
            body.get("report"),
            body.get("links", {}),
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Two runs' results of one system, on the questions that both have.

    Attributes:
        system: The system.
        questions: How many questions both have.
        a: Its mean score in the first run.
        b: Its mean score in the second.
        difference: `a - b`.
        low: Lower end of the difference's 95% interval.
        high: Upper end.
        tie: Whether no difference lies inside.
    """

    system: str
    questions: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    tie: bool


def runs(limit: int, after: str | None) -> Flow[Page[Run]]:
    """List runs."""
    return asked(Call("GET", "/v1/runs", listed(limit, after)), page_of(Run.of))


def run(id: str) -> Flow[Run]:
    """Look at a run."""
    return asked(Call("GET", f"/v1/runs/{quote(id, safe='')}"), Run.of)


def report(id: str, form: Literal["md", "html"]) -> Flow[str]:
    """Fetch a run's report."""
    response = yield Call("GET", f"/v1/runs/{quote(id, safe='')}/report", {"params": {"format": form}})
    text: str = response.text
    return text


def compared(a: str, b: str) -> Flow[tuple[Difference, ...]]:
    """Compare two runs."""
    call = Call("GET", "/v1/runs/compare", {"params": {"a": a, "b": b}})
    return asked(call, lambda body: tuple(taken(Difference, each) for each in body["systems"]))


class Runs:
    """The evaluation runs at the endpoint; where it wants keys, an admin's sees them."""

    def __init__(self, client: Counterpoint) -> None:
        self._client = client

    def list(self, limit: int = 100, after: str | None = None) -> Page[Run]:
        """List runs, newest first, those that cannot be read last."""
        return self._client.run(runs(limit, after))

    def get(self, id: str) -> Run:
        """Tell what a run found, with its scores by category and its report."""
        return self._client.run(run(id))

    def report(self, id: str, form: Literal["md", "html"] = "html") -> str:
        """Fetch a run's report as it stands."""
        return self._client.run(report(id, form))

    def compare(self, a: str, b: str) -> tuple[Difference, ...]:
        """Compare two runs, system by system, on the questions that both have."""
        return self._client.run(compared(a, b))


class AsyncRuns:
    """The evaluation runs at the endpoint; the methods are those of `Runs`."""

    def __init__(self, client: AsyncCounterpoint) -> None:
        self._client = client

    async def list(self, limit: int = 100, after: str | None = None) -> Page[Run]:
        """List runs."""
        return await self._client.run(runs(limit, after))

    async def get(self, id: str) -> Run:
        """Tell what a run found."""
        return await self._client.run(run(id))

    async def report(self, id: str, form: Literal["md", "html"] = "html") -> str:
        """Fetch a run's report as it stands."""
        return await self._client.run(report(id, form))

    async def compare(self, a: str, b: str) -> tuple[Difference, ...]:
        """Compare two runs."""
        return await self._client.run(compared(a, b))
