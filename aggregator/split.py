"""Splitting: a request of several parts is divided, and each part goes to whoever is good at it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from aggregator.base import Aggregator, AggregatorError, Ask, none_usable, usable
from aggregator.forms import choices_of
from aggregator.quoting import GUARD, below, tagged
from aggregator.vote import Vote
from data.records import Answer, CounterpointError, Message, Request, Route, Usage

MERGES = ("join", "write")
"""How the parts' answers become one."""

DIVIDE = (
    f"A user sent the quoted message. {GUARD} Does it hold several questions or tasks that different people could do without "
    "knowing of each other? Then write each on a line of its own that begins with 'PART: ' and can be understood alone, with all "
    "that it needs to know from the message, in the order of the message. Otherwise write one such line. Do not answer anything."
)
WRITE = (
    f"The user's last message was divided, and each part was answered on its own; parts and answers follow. {GUARD} Write one "
    "answer to the whole message from them, in its order and in the form that was asked for. Correct what is plainly wrong, "
    "leave nothing out, and do not mention the division."
)

_FENCE = re.compile(r"^[ >]{0,9}(```|~~~)", re.MULTILINE)
_PROTECTED = re.compile(  # one pass, so that a mark within another is no mark
    r"^[ ]{0,3}(?P<fence>```+|~~~+)[^\n]*\n(?:.*?^[ ]{0,3}(?P=fence)[`~]*[ ]*$|.*)"
    r"|`[^`\n]+`|\$\$[^$]+\$\$"
    r"|^[ ]{0,3}>[^\n]*$"
    r'|(?<!\w)"(?:[^"]*"|[^"]*\Z)|\u201c[^\u201d]*(?:\u201d|\Z)|\u00ab[^\u00bb]*(?:\u00bb|\Z)'
    r"|(?<!\w)'(?:[^'\n]|(?<=\w)'(?=\w))+'(?!\w)",
    re.MULTILINE | re.DOTALL,
)
_DIGIT = r"(?P<digit>\d{1,2})"
_MARKERS = tuple(  # a style each: what numbers its items, or nothing for bullets
    (re.compile(pattern, re.MULTILINE), first)
    for pattern, first in (
        (rf"^[ ]{{0,3}}(?P<mark>{_DIGIT}\.)[ \t]+", "1"),
        (rf"^[ ]{{0,3}}(?P<mark>\(?{_DIGIT}\))[ \t]+", "1"),
        (r"^[ ]{0,3}(?P<mark>\(?(?P<digit>[a-j])[).])[ \t]+", "a"),
        (r"^[ ]{0,3}(?P<mark>[-*+\u2022])[ \t]+", ""),
        (rf"(?:^|(?<=\s))(?P<mark>\(?{_DIGIT}\))[ \t]+", "1"),
        (rf"(?:^|(?<=[\s]))(?P<mark>{_DIGIT}\.)[ \t]+(?=[A-Z])", "1"),
        (r"(?:^|(?<=\s))(?P<mark>\((?P<digit>[a-j])\))[ \t]+", "a"),
    )
)
_VERB = (
    "add|analy[sz]e|answer|calculate|check|compare|complete|compose|compute|convert|correct|count|create|debug|define|derive|describe|"
    "design|determine|differentiate|discuss|divide|draft|draw|estimate|evaluate|explain|express|factori?[sz]e|find|fix|generate|give|"
    "identify|implement|integrate|list|make|multiply|name|outline|plan|propose|prove|provide|recommend|rewrite|say|show|simplify|sketch|"
    "solve|sort|spell|state|subtract|suggest|summari[sz]e|tell|translate|write"
)
_IMPERATIVE = re.compile(rf"(?:please[, ]+|also[, ]+)*(?:{_VERB})\b(?!\s*[-:=(])", re.IGNORECASE)
_ASKING = re.compile(
    r"(?:what|who|whom|whose|where|when|why|how|which)\b[^.!?\n]*\b(?:is|are|was|were|do|does|did|can|could|will|would|should|has|have|many|much|said|wrote|made|invented|discovered|won|painted)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"\?[\s)*_\"'\u201d]*$")
_ANNOUNCES = re.compile(
    r"(?:please[, ]+|(?:can|could|will|would) you[, ]+|i need you to )*"
    r"(?:(?:answer|solve|do|complete|work (?:out|on|through)|help(?: me)?(?: with)?)(?: (?:me|for me|to|all|of|with|my|"
    r"the|these|this|following|next|below|each|both|two|three|four|five|\d|short|simple|separate|independent|and|math|questions?|tasks?|problems?|parts?|things|exercises?)){1,9}"
    r"|(?:i have|here are|these are|there are|my|some|two|three|four|five|several|a few)(?: [\w-]+){0,4}?"
    r" (?:questions|tasks|problems|things|exercises)"
    r"|questions|tasks|problems|exercises)"
    r"(?:,? (?:in|as|with|using) [^.?!:]{1,60}| briefly| shortly| separately| one by one| please| below| for (?:me|you))*\s*[.:?!]?$",
    re.IGNORECASE,
)
_MATERIAL = re.compile(r"\?|:|\b(?:following|below|these|those|each)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[?!])[)\"'\u201d]*\s+|(?<=[^\W\d]{2}\.|[/\s][a-z]\.)\s+(?=[A-Z0-9\"'(\u201c])|(?<=\d\.)\s+(?=[A-Z])|\n\s*\n")
_LEANS = re.compile(  # a part that is nothing without the one before it
    r"^\W*(?:or|and|but|so|then|now|next|finally|lastly|afterwards?|after (?:that|this)|if (?:so|not|yes|no)|"
    r"(?:and )?(?:why|how)(?: not| so)?\s*\?|"
    r"(?:why|how come|where|when|who)\s*\?)(?!\w)"
    r"|^\W*(?:\w+ )?(?:is|was|does|did|do|explain|prove|test|use) that\b"
    r"|\b(?:previous|preceding|the above|above|former|latter|the results?|your (?:answers?|results?|solution|code)|"
    r"the answers? (?:to|from|of|in)|"
    r"(?:part|step|question|item|point|task|problem|number|exercise)s? \(?(?:\d+|[a-j])\b\)?|#\d|the same|instead|respectively|"
    r"from \(?(?:\d|[a-j])\)|using \(?(?:\d|[a-j])\))",
    re.IGNORECASE,
)
_PRONOUNS = frozenset("it its he his him she her they them their this these those else another".split())
_GATHERS = re.compile(r"\b(?:compare|combine|both|together|between|overall|total|sum|final(?:ly)?)\b", re.IGNORECASE)
_THERE = re.compile(r"\bthere\W*$", re.IGNORECASE)
_HELP = re.compile(r"(?:hi|hello|hey)\b|(?:can|could|would|will) (?:you|anyone|someone)(?: please)? help\b|how are you\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a request.

    Attributes:
        label: How the question numbers it.
        text: What to ask, with what it shares with the other parts.
    """

    label: str
    text: str


def parts_of(text: str, most: int = 5) -> list[str]:
    r"""Divide a text into its parts; one that is no sum of independent parts is its only part.

    Lists whose items are all questions or tasks are divided, and rows of several questions; what stands before them or
    after them goes with each. Options to choose from, code, quotations, parts that lean on each other and more than `most`
    of them are left together: dividing wrongly costs more than not dividing.

    Example:
        >>> parts_of("Ann is 7.\n1. How old will Ann be in 5 years?\n2. Write a poem for Ann.")
        ['Ann is 7.\n\nHow old will Ann be in 5 years?', 'Ann is 7.\n\nWrite a poem for Ann.']
        >>> parts_of("Which is a fruit? A) pear B) chair")
        ['Which is a fruit? A) pear B) chair']
    """
    return [part.text for part in divided(text, most)] or [text]


def divided(text: str, most: int = 5) -> list[Part]:
    """Divide a text, each part with the label that the text gives it; nothing where it has but one part."""
    if choices_of(text):
        return []
    masked = _masked(text)
    parts = _listed(text, masked)
    if parts is None:
        parts = _sentences(text, masked)
    return parts if 2 <= len(parts) <= most else []


def _masked(text: str) -> str:
    """The text, as long as before, with code and quotations made one unreadable word."""
    return _PROTECTED.sub(lambda found: "\x00" * len(found[0]), text)


def _listed(text: str, masked: str) -> list[Part] | None:
    """The items of a list, [] where its items belong together, None where there is no list."""
    for pattern, first in _MARKERS:
        marks = list(pattern.finditer(masked))
        if first:
            numbers = [mark["digit"] for mark in marks]
            if numbers != [str(at) if first == "1" else chr(ord("a") + at - 1) for at in range(1, len(marks) + 1)]:
                continue
        if len(marks) < 2:
            continue
        ends = [*(mark.start() for mark in marks[1:]), _end(masked, marks[-1].end())]
        spans = [(mark.end(), end) for mark, end in zip(marks, ends, strict=True)]
        lead, tail = slice(0, marks[0].start()), slice(ends[-1], len(text))
        items = [masked[start:end] for start, end in spans]
        if not _independent(masked[lead], items, masked[tail]):
            return []
        labels = [mark["mark"] for mark in marks]
        return [Part(label, _joined(text[lead], text[start:end], text[tail])) for label, (start, end) in zip(labels, spans, strict=True)]
    return None


def _end(masked: str, start: int) -> int:
    """Where the last item of a list ends: at an empty line that is followed by a line at the margin."""
    found = re.compile(r"\n[ \t]*\n(?=\S)").search(masked, start)
    return found.start() if found else len(masked)


def _sentences(text: str, masked: str) -> list[Part]:
    """The questions of a text that is a row of them, between what leads in and what follows; [] where it is none."""
    if any(pattern.search(masked) for pattern, _ in _MARKERS[:4]):
        return []
    edges = [0, *(found.end() for found in _SENTENCE.finditer(masked)), len(masked)]
    spans = [(start, end) for start, end in pairwise(edges) if text[start:end].strip()]
    asks = [bool(_QUESTION.search(masked[start:end])) and not _HELP.match(masked[start:end]) for start, end in spans]
    if sum(asks) < 2:
        return []
    first, last = asks.index(True), len(asks) - asks[::-1].index(True)
    if not all(asks[first:last]) or re.search(r":\s", masked[slice(*spans[first])]):
        return []  # what stands between the questions may change what the later ones mean; "Translate: Who? Why?" asks nothing
    lead, tail = slice(0, spans[first][0]), slice(spans[last - 1][1], len(text))
    if not _independent(masked[lead], [masked[start:end] for start, end in spans[first:last]], masked[tail]):
        return []
    chosen = [text[start:end] for start, end in spans[first:last]]
    return [Part(f"{at}.", _joined(text[lead], question, text[tail])) for at, question in enumerate(chosen, start=1)]


def _independent(lead: str, items: Sequence[str], tail: str) -> bool:
    """Whether each item is a question or a task of its own, and what surrounds them only tells or announces."""
    if "?" in tail or _LEANS.search(tail) or _GATHERS.search(tail) or not all(map(_is_task, items)):
        return False
    if any(_LEANS.search(item) for item in items[1:]):
        return False
    told = [sentence.strip() for sentence in _SENTENCE.split(lead) if sentence.strip()]
    if told and _announces(told[-1]):
        told.pop()
    elif told and (_MATERIAL.search(told[-1]) or _IMPERATIVE.match(told[-1])):
        return False  # "Sort these:" and "Which is true?" make material of what follows; "Ann is 7." tells what it is about
    return any(not _announces(sentence) for sentence in told) or not any(map(_points_back, items[1:]))


def _announces(sentence: str) -> bool:
    return _HELP.match(sentence) is not None or (len(sentence) < 200 and _ANNOUNCES.match(sentence) is not None)


def _points_back(item: str) -> bool:
    """Whether a part speaks of something that it does not name: "How large is its port?", "Who lives there?"."""
    words = re.findall(r"[\w']+", item[:200].lower())[:5]
    return not _PRONOUNS.isdisjoint(words) or _THERE.search(item) is not None


def _is_task(item: str) -> bool:
    text = item.strip(" \t\n*_")
    first = _SENTENCE.split(text, maxsplit=1)[0]
    return bool(_QUESTION.search(text) or _QUESTION.search(first) or _IMPERATIVE.match(text) or _ASKING.match(text))


def _joined(lead: str, item: str, tail: str) -> str:
    return "\n\n".join(text for text in (lead.strip(), item.strip(), tail.strip()) if text)


class Split(Aggregator):
    """Divide a request into its parts, ask each part's best expert, and put the answers together.

    A request of one part is answered as ever: by the route's experts, who vote. So are given answers.

    Args:
        most: Parts at most; a request of more is asked as a whole.
        merge: `join` puts the answers below each other, numbered as in the question; `write` lets the route's primary write
            one text from them.
        divider: The expert that divides, or None for rules (`parts_of`), which also stand in where it fails.

    Raises:
        AggregatorError: There are fewer parts than two, or the merge is unknown.

    Source:
        Agashe et al. 2025, Agent S2: A Compositional Generalist-Specialist Framework for Computer Use Agents, arXiv:2504.00906
        (the idea that each step goes to its specialist; division and merge are ours).
    """

    kind: ClassVar[str] = "split"
    llm: bool = True
    asks: bool = True

    def __init__(self, most: int = 5, merge: str = "join", divider: str | None = None) -> None:
        if most < 2:
            raise AggregatorError(f"most must be at least 2, not {most}")
        if merge not in MERGES:
            raise AggregatorError(f"merge must be one of {', '.join(MERGES)}, not {merge!r}")
        self.most, self.merge, self.divider = most, merge, divider

    async def aggregate(self, request: Request, answers: Sequence[Answer], route: Route, ask: Ask) -> Answer:
        """Divide, ask and merge; vote where the answers are given or there is one part."""
        if answers:
            return await Vote().aggregate(request, answers, route, ask)
        parts, divided_by = await self._divide(request, ask)
        if len(parts) < 2:
            final = await self._whole(request, route, ask)
        else:
            final = await self._in_parts(request, parts, route, ask)
        failed = divided_by is not None and divided_by.error is not None
        usage = final.usage if divided_by is None else final.usage + divided_by.usage
        return replace(final, usage=usage, degraded=final.degraded or (failed and final.error is None))

    async def _divide(self, request: Request, ask: Ask) -> tuple[list[Part], Answer | None]:
        """The parts, and what the divider said, where it was asked."""
        text = request.question
        if not request.messages or request.messages[-1].role != "user":
            return [], None
        if self.divider is None or choices_of(text) or _FENCE.search(text) or not text.strip():  # a line holds no code
            return divided(text, self.most), None
        prompt = f"{DIVIDE}\n{tagged('message', text, max(len(text), 1))}"
        said = await ask(self.divider, [Message("user", prompt)], temperature=0.0, stop=(), max_tokens=None)
        lines = [line.strip().partition("PART:") for line in said.text.splitlines()] if said.error is None else []
        texts = [text.strip() for before, mark, text in lines if mark and not before.strip("*-# ") and text.strip()]
        if not 1 <= len(texts) <= self.most:
            return divided(text, self.most), said
        return [Part(f"{at}.", text) for at, text in enumerate(texts, start=1)], said

    async def _whole(self, request: Request, route: Route, ask: Ask) -> Answer:
        """Ask the route's experts the request as it is, and let them vote."""
        alone = len(route.experts) == 1  # its words are the answer's

        async def one(at: int, expert: str) -> Answer:
            how = _sample(request, route.experts[:at].count(expert))
            return await ask(expert, request.messages, final=alone, **how)

        answers = await asyncio.gather(*(one(at, expert) for at, expert in enumerate(route.experts)))
        final = await Vote().aggregate(request, answers, route, ask)
        return replace(final, usage=_sum(answers))

    async def _in_parts(self, request: Request, parts: Sequence[Part], route: Route, ask: Ask) -> Answer:
        """Ask each part of its own route's primary, and merge."""
        asked = await asyncio.gather(*(self._part(request, part, route, ask) for part in parts))
        usage = _sum([answer for tries in asked for answer in tries])
        answers = [tries[-1] for tries in asked]
        if not usable(answers):
            return replace(none_usable(answers), usage=usage)
        lines = zip(parts, answers, strict=True)
        text = "\n\n".join(f"{part.label} {answer.text.strip() or '(no answer)'}" for part, answer in lines)
        failed = any(answer.error is not None for tries in asked for answer in tries)
        cut = any(answer.finish_reason == "length" for answer in answers)
        joined = Answer(text, route.primary, usage, "length" if cut else "stop", degraded=failed)
        if self.merge == "join":
            return joined
        ask.draft(joined)
        quoted = (f"{tagged('part', part.text)}\n{tagged('answer', answer.text)}" for part, answer in zip(parts, answers, strict=True))
        written = await ask(route.primary, below(request, "\n".join([WRITE, *quoted])), final=True)
        usage += written.usage
        if written.error is not None or not written.text.strip():
            return replace(joined, usage=usage, degraded=True)
        return Answer(written.text, written.expert, usage, written.finish_reason, degraded=failed)

    async def _part(self, request: Request, part: Part, whole: Route, ask: Ask) -> list[Answer]:
        """Ask one part of its primary, and where that fails, of one other expert; all that was answered."""
        route = whole
        with suppress(CounterpointError):  # a part that cannot be routed goes where the whole goes
            route = ask.route(part.text)
        messages = [*request.messages[:-1], Message("user", part.text)]
        answers = [await ask(route.primary, messages)]
        other = next((name for name in (*route.experts, *whole.experts) if name != route.primary), None)
        if answers[0].error is not None and other is not None:
            answers.append(await ask(other, messages))
        return answers


def _sample(request: Request, sample: int) -> dict[str, object]:
    """What differs in the second and later calls of one expert, so that its answers can."""
    sampling = request.sampling
    return {"temperature": sampling.temperature or 0.7, "seed": ((sampling.seed or 0) + sample) % 2**63} if sample else {}


def _sum(answers: Sequence[Answer]) -> Usage:
    return sum((answer.usage for answer in answers), Usage())
