"""What the router has learned, where its questions lie, and what it makes of a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from counterpoint.pages import taken
from counterpoint.steps import Call, Flow, asked


@dataclass(frozen=True, slots=True)
class Profile:
    """Who is good at what: mean quality of each expert on each kind of question.

    Attributes:
        by: What a row is: `category`, `skill`, `cluster` or, one row for all questions, `overall`.
        rows: Their names.
        experts: The columns.
        quality: Row by row, None where nothing is known.
        questions: Questions of each row, or None where that is not known.
        of: Rows that there are in all; those with most questions are told.
    """

    by: str
    rows: tuple[str, ...]
    experts: tuple[str, ...]
    quality: tuple[tuple[float | None, ...], ...]
    questions: tuple[int, ...] | None
    of: int

    @classmethod
    def of_wire(cls, body: Mapping[str, Any]) -> Profile:
        """Read the wire's form."""
        questions = None if body["questions"] is None else tuple(body["questions"])
        quality = tuple(tuple(row) for row in body["quality"])
        return cls(body["by"], tuple(body["rows"]), tuple(body["experts"]), quality, questions, int(body["of"]))


@dataclass(frozen=True, slots=True)
class MapPoint:
    """A training question on the map, or a cluster of them.

    Attributes:
        x: Its place along the first axis.
        y: Its place along the second.
        best: The expert that did best, or None where nobody was right.
        right: The experts that were right.
        category: What kind of question it is, as the router foretells it, or None.
        text: Its beginning, where the router's artefact holds texts.
        questions: Questions that it stands for.
    """

    x: float
    y: float
    best: str | None
    right: tuple[str, ...]
    category: str | None
    text: str | None
    questions: int

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> MapPoint:
        """Read the wire's form."""
        return taken(cls, body, right=tuple(body["right"]))


@dataclass(frozen=True, slots=True)
class QuestionMap:
    """The training questions on a plane; what is alike lies together.

    Attributes:
        of: Whether points are `questions` or `clusters`.
        total: How many there are; of more than 2,000 some are drawn.
        points: The points.
    """

    of: str
    total: int
    points: tuple[MapPoint, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """How today's questions differ from the training questions, as far as either are kept.

    Attributes:
        questions: Questions of today that were looked at.
        note: Why something is not told, or None.
        told_apart: How well new questions are told from old ones: 0.5 is chance, 1 is always.
        chance: What that reaches by chance in 19 of 20 cases.
        moved: Share of the questions that changed hands.
        shares: Share of the questions that each expert is first for, `before` and `now`.
        confidence: Mean of the best score, `before` and `now`.
    """

    questions: int
    note: str | None
    told_apart: float | None
    chance: float | None
    moved: float | None
    shares: Mapping[str, Mapping[str, float] | None]
    confidence: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What people thought of the answers for which an expert was the first choice.

    Attributes:
        answers: How many were told of.
        mean: Their mean score, 0 to 1.
    """

    answers: int
    mean: float


@dataclass(frozen=True, slots=True)
class Routers:
    """The mixture's router, and the others that can be tried.

    Attributes:
        experts: The experts that it scores.
        tried: Names of the routers that `try_routers` scores by.
        name: Name of its artefact's folder, or None where the mixture has no router.
        kind: Its kind, or None.
        base: What a living router wraps, or None.
        members: Kinds of a stack's members.
        encoder: What reads texts for it, or None.
        questions: Training questions that its artefact holds, or None.
        answers: On how many of these each expert was measured, or None.
        means: Each expert's mean score, or None.
        profile: Who is good at what, or None.
        map: Where the training questions lie, or None.
        drift: Whether today's questions are like them, or None.
        note: Why there is nothing to tell, or None.
        feedback: What people thought, by the first choice; None where nothing is kept.
    """

    experts: tuple[str, ...]
    tried: tuple[str, ...]
    name: str | None = None
    kind: str | None = None
    base: str | None = None
    members: tuple[str, ...] = ()
    encoder: str | None = None
    questions: int | None = None
    answers: Mapping[str, int] | None = None
    means: Mapping[str, float] | None = None
    profile: Profile | None = None
    map: QuestionMap | None = None
    drift: Drift | None = None
    note: str | None = None
    feedback: Mapping[str, Opinion] | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Routers:
        """Read the wire's form."""
        own = body["router"] or {}
        plain = {name: own.get(name) for name in ("name", "kind", "base", "encoder", "questions", "answers", "means")}
        drawn = body["map"] and QuestionMap(
            body["map"]["of"], int(body["map"]["total"]), tuple(MapPoint.of(each) for each in body["map"]["points"])
        )
        return cls(
            tuple(body["experts"]),
            tuple(body["tried"]),
            **plain,
            members=tuple(own.get("members", ())),
            profile=body["profile"] and Profile.of_wire(body["profile"]),
            map=drawn,
            drift=body["drift"] and taken(Drift, body["drift"]),
            note=body.get("note"),
            feedback=None if (given := body.get("feedback")) is None else {name: taken(Opinion, each) for name, each in given.items()},
        )


@dataclass(frozen=True, slots=True)
class RouterScores:
    """What one router makes of a text.

    Attributes:
        name: `mixture` is the mixture's own; a stack's members follow it, before calibration, then the baselines.
        kind: Its kind.
        baseline: Whether it is a baseline, which nobody should be worse than.
        scores: Probability that each expert is right.
        reasons: Lines that say what speaks for the scores.
    """

    name: str
    kind: str
    baseline: bool
    scores: Mapping[str, float]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training question near a text.

    Attributes:
        similarity: How near, 1 at most.
        number: Its number among the map's points, or None where it was not drawn.
        point: The question.
    """

    similarity: float
    number: int | None
    point: MapPoint


@dataclass(frozen=True, slots=True)
class Tried:
    """What the routers make of a text.

    Attributes:
        routers: The scores of each.
        place: Where it lies on the map, or None.
        nearest: The training questions next to it, nearest first.
        note: Why there is nothing more to tell, or None.
    """

    routers: tuple[RouterScores, ...]
    place: tuple[float, float] | None
    nearest: tuple[Neighbour, ...]
    note: str | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Tried:
        """Read the wire's form."""
        place = None if body["place"] is None else (float(body["place"]["x"]), float(body["place"]["y"]))
        nearest = tuple(Neighbour(each["similarity"], each["point"], MapPoint.of(each)) for each in body["nearest"])
        scored = tuple(taken(RouterScores, each, reasons=tuple(each["reasons"])) for each in body["routers"])
        return cls(scored, place, nearest, body.get("note"))


def routers() -> Flow[Routers]:
    """Ask about the mixture's router."""
    return asked(Call("GET", "/v1/routers"), Routers.of)


def tried(text: str) -> Flow[Tried]:
    """Ask what the routers make of a text."""
    return asked(Call("POST", "/v1/routers/try", {"json": {"text": text}}), Tried.of)
