"""Graders: is an answer right? What cannot be read as an answer is wrong."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import islice

from data.mathematics import read_math, same_math
from data.mathematics import why_not as no_mathematics
from data.programs import passes, read_program
from data.records import CounterpointError
from data.sandbox import why_not as no_sandbox
from data.skills import in_words

# No pattern below may backtrack over a long text: an answer can be as long as its writer likes.

_PLAIN = str.maketrans(
    {0x2212: "-", 0x2013: "-", 0x2044: "/", 0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0xAB: '"', 0xBB: '"'}
    | dict.fromkeys([0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0xAD])  # invisible
)
_STATED = re.compile(
    r"\b(?:answer|output|result)[\s*_]*(?:\b(?:is|are|would be|should be)\b:?|[:=])(?!\s*not\b)[\s*_]*"
    r"|^[#*_ ]{0,9}(?:final )?answer[*_ ]{0,9}$|\\boxed\{|####",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"\s*```\w*\s*")
_BULLET = re.compile(r"^\s*(?:[-*]\s+|•\s*|\d+[.)]\s+)")
_SENTENCE = re.compile(r"(?<=\w{3})[.!](?:\s+(?=[A-Z])|\s*$)")

NUMBER = re.compile(
    r"(?:(?<![\w)^])-)?(?<![\w^])(?<!\d\.)"
    r"(?:\d+ \d+/\d+|(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\.)\.\d+)(?:[eE][-+]?\d+)?(?:/\d+)?)"
)
"""A number: a sign, thousands between commas, decimals, a power of ten, a fraction (`2 1/2` is one too)."""
_SPELLINGS = [
    (re.compile(r"(?<=\d)['_\u00a0\u2009\u202f](?=\d{3}(?!\d))"), ""),  # thousands apart
    (re.compile(r"\s+"), " "),
    (re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}"), r"\1/\2"),
    (re.compile(r" ?(?:\u00d7|\\times|x|\*) ?10\^\{?(-?\d+)\}?"), r"e\1"),
    (re.compile(r"\$"), ""),
    (re.compile(r"[*_` ]+"), " "),
    (re.compile(r"(?<!\d )\b(?:minus|negative) (?=\d)", re.IGNORECASE), "-"),
]
_WORDS = {in_words(number).replace("-", " "): float(number) for number in range(100)}
_IN_WORDS = re.compile(rf"\b(minus |negative )?({'|'.join(sorted(_WORDS, key=len, reverse=True))})\b")

_SMALL = re.compile(r"^\(?([a-j])(?=\)|[.:,](?![a-z])|$)|\b(?:option|choice|letter) \(?([a-j])\b|(?<!\w)\(([a-j])\)")
_ONE = r"(?<![\w'])\(?(?:[A-HJ]|I(?! [a-z]))\)?(?![\w'])"
_HEDGE = re.compile(rf"{_ONE}(?:, ?{_ONE}){{0,9}}(?:,? (?:and|or|&) | ?/ ?){_ONE}")
_DENIED = re.compile(rf"\bnot (?:option )?{_ONE}|{_ONE} (?:is|are) (?:false|wrong|incorrect|not)\b")
_LETTER = re.compile(  # "A dog" and "I think" are words; "A is true" is a choice
    r"(?<![\w'])\(?(A(?! (?!(?:is|because|since|as)\b)[a-z])|[B-H]|I(?! (?!is\b)[a-z])|J)\)?(?![\w'])"
)

_OPTION = re.compile(r"\b(?:[Aa]nswer|ANSWER)(?: is:?|:)[\s*_$]{0,9}(?:\\boxed\{|\\text\{){0,2}(?:\(?([A-J])(?![\w'])|\(([K-R])\))")
_ALONE = re.compile(r"[*_]{0,2}(?:\(?([A-J])\)?[.:]?|(?:\(([A-J])\)|([A-J])[.)]) [^\n]*)[*_]{0,2}\Z")
_MMLU_PRO = re.compile(r"answer is \(?([A-J])\)?")

_SO = re.compile(r"(?:^|[.,;]\s)(?:so|therefore|thus|hence),? ", re.IGNORECASE | re.MULTILINE)
_LEAD = re.compile(
    r"(?:it's|(?:it|(?:that|this|the|an?)(?: .{1,60}?)?) (?:is|was|will be|would be|(?:will )?(?:print|output|return)s?|becomes)):? ",
    re.IGNORECASE,
)
_TAIL = re.compile(r",? (?:because|since)\b|,? (?:is|was|comes) (?:the|an?)\b|, (?:the|an?|which|who)\b| \(")
_LIST_LEAD = re.compile(r"(?:[Ii]n [^,;]{1,40}, )?[^,;]{0,80}(?:\b(?:are|is)\b:?|:) ")
_LIST_TAIL = re.compile(r" (?:are|is) (?:the|in|sorted)\b")
_BETWEEN = re.compile(r"[-=]?>|[,;&<→]|\b(?:and|then)\b")


def _plain(text: str) -> str:
    """A text with one kind of dash and of quotes, composed letters, and nothing invisible."""
    return unicodedata.normalize("NFC", text).translate(_PLAIN)


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """What may hold the answer: what follows "answer is" and the like, the last first, then everything; and whether it is stated."""
    yield from ((part, True) for part in reversed(_STATED.split(text)[1:]) if part.strip())
    yield _STATED.sub(" ", text), False


def _lines(text: str) -> list[str]:
    """The lines of the answer itself, without code fences and a first line such as "Here it is:"."""
    part, _ = next(_parts(text))
    lines = [line.strip() for line in part.splitlines() if line.strip() and not _FENCE.fullmatch(line)]
    return lines[1:] if len(lines) > 1 and lines[0].rstrip("* ").endswith(":") else lines


def _bare(text: str) -> str:
    """A text without the quotes, marks and the stop around it."""
    edges = " *`$\"'}"
    return " ".join(text.strip(edges).rstrip(".!,;:").strip(edges).rstrip(".!,;:").split())


def read_choice(text: str) -> str | None:
    """Read the letter of a choice from A to J; two letters at once, or all in a row, are none.

    Example:
        >>> read_choice("The answer is (C) because B is false."), read_choice("b) it"), read_choice("I do not know.")
        ('C', 'B', None)
    """
    for part, stated in _parts(_plain(unicodedata.normalize("NFKC", text))):
        flat = " ".join(re.sub(r"[*_`$]", " ", part).split())
        flat = _SMALL.sub(lambda found: f"({(found[1] or found[2] or found[3]).upper()})", flat)
        flat = _DENIED.sub(" ", _HEDGE.sub(" ", flat)).strip()
        letters = [found[1] for found in _LETTER.finditer(flat)]
        echoed = next((at for at, letter in enumerate(letters) if letter != chr(ord("A") + at)), len(letters))
        if echoed > 2:  # the options of the question, said again
            letters = letters[echoed:]
        if letters:
            return letters[0] if stated or (echoed <= 2 and _LETTER.match(flat)) else letters[-1]
    return None


def read_option(text: str) -> str | None:
    r"""Read the letter of a choice where it is stated, or all that is said: of several statements the first, whatever is written after it.

    Models without a sense for their end go on with questions and answers of their own, so the last statement is often of another question;
    and a letter that merely stands in a long text is none.

    Example:
        >>> read_option("The answer is (C).\n\nQuestion: ... The answer is (A)."), read_option("**Answer:** B"), read_option("B. Oslo")
        ('C', 'B', 'B')
        >>> read_option("Option A looks good, and so does B.") is None
        True
    """
    text = text.rpartition("</think>")[2]
    found = _OPTION.search(text) or _ALONE.match(text.strip())
    return next((letter for letter in found.groups() if letter), None) if found else None


def read_mmlu_pro(text: str) -> str | None:
    """Read the letter as MMLU-Pro's own evaluation first did: "answer is (X)" to the letter, and the first of them.

    Example:
        >>> read_mmlu_pro("So the answer is (C). The answer is (B)."), read_mmlu_pro("Answer: C")
        ('C', None)
    """
    found = _MMLU_PRO.search(text)
    return found[1] if found else None


def read_integer(text: str) -> str | None:
    r"""Read a whole number from 0 to 999, as AIME asks for one: boxed, stated, or the last in the text; anything else is none.

    Example:
        >>> read_integer(r"so \\boxed{042}"), read_integer("The answer is 1000."), read_integer("m + n = 25")
        ('42', None, '25')
    """
    text = text.rpartition("</think>")[2]
    part = read_math(text) if "\\boxed" in text else text
    value = None if part is None else read_number(re.sub(r"(?<![\d.])0+(?=\d)", "", part))
    return f"{value:.0f}" if value is not None and value.is_integer() and 0 <= value <= 999 else None


def read_number(text: str) -> float | None:
    """Read a number: the first after "answer is", else the last one that stands in the text; up to 99 also in words.

    Example:
        >>> read_number("12 + 30 = 42."), read_number("The answer is 1,200 (not 7)."), read_number("none")
        (42.0, 1200.0, None)
        >>> read_number("There are 180 minutes in 3 hours."), read_number("It is forty-two.")
        (180.0, 42.0)
    """
    halves = re.sub("[\u00bc-\u00be\u2150-\u215e]", lambda one: " " + unicodedata.normalize("NFKC", one[0]), text)
    for part, stated in _parts(_plain(halves)):
        flat = part
        for pattern, spelled in _SPELLINGS:
            flat = pattern.sub(spelled, flat)
        if stated and (sum_ := re.match(r"[\d .,+/\u00d7\u00f7()=x-]*=", flat)):  # "the answer is 5 + 6 = 11"
            flat = flat[sum_.end() :]
        outside = re.sub(r"\([^()]*\)", " ", flat)  # "42 (12 + 30)"
        flat = outside if NUMBER.search(outside) else flat
        found = [one for one in NUMBER.finditer(flat) if not flat.endswith("not ", 0, one.start())]
        if not found:
            continue
        chosen = found[0] if stated else found[-1]
        if not stated and len(found) > 1 and flat[found[-2].end() : chosen.start()].endswith(" in "):
            chosen = found[-2]  # "180 minutes in 3 hours"
        return _value(chosen[0])
    return _number_in_words(text)


def _number_in_words(text: str) -> float | None:
    words = text.lower().replace("-", " ")
    found = [(sign, word) for sign, word in _IN_WORDS.findall(words) if word != "one"]  # "the last one"
    if not found and (read_exact(text) or "").lower() == "one":
        return 1.0
    if not found or re.search(r"hundred|thousand|million", words):
        return None
    sign, word = found[-1]
    return -_WORDS[word] if sign else _WORDS[word]


def _value(number: str) -> float | None:
    whole, _, part = number.replace(",", "").rpartition(" ")
    top, _, bottom = part.partition("/")
    if bottom and float(bottom) == 0:
        return None
    value = float(top) / float(bottom or 1)
    return float(whole) + math.copysign(value, float(whole)) if whole else value


def read_exact(text: str) -> str | None:
    """Read a short text: the stated answer or the first sentence, without "it is", reasons, quotes, marks and the final stop.

    Example:
        >>> read_exact('The answer is "red-ox".'), read_exact("Ben is the tallest."), read_exact("")
        ('red-ox', 'Ben', None)
    """
    line = _SO.split("\n".join(_lines(_plain(text))))[-1].partition("\n")[0]
    rest = _SENTENCE.split(_BULLET.sub("", line, count=1), maxsplit=1)[0]
    at = 0
    while lead := _LEAD.match(rest, at):
        at = lead.end()
    rest = rest[at:]
    rest = re.sub(r"^\W{0,3}(?:[Oo]n|[Ii]n) (?=[A-Z])", "", rest)
    return _bare(_TAIL.split(rest, maxsplit=1)[0]) or _bare(line) or None


def read_list(text: str) -> list[str] | None:
    r"""Read a list: parts between commas, line breaks or bullets.

    Example:
        >>> read_list("The answer is: pear, plum and fig."), read_list("1. pear\n2. fig")
        (['pear', 'plum', 'fig'], ['pear', 'fig'])
    """
    lines = [line for line in _lines(re.sub(r",\s*\n", ", ", _plain(text))) if re.search(r"\w", line)]
    if len(bullets := [line for line in lines if _BULLET.match(line)]) > 1:
        parts = [_BULLET.sub("", line, count=1) for line in bullets]
    else:
        first = _SENTENCE.split(lines[0], maxsplit=1)[0] if lines else ""
        lead = _LIST_LEAD.match(first)
        parts = _BETWEEN.split(_LIST_TAIL.split(first[lead.end() :] if lead else first, maxsplit=1)[0])
        if len(lines) > 1 and sum(1 for part in parts if part.strip()) < 2:
            parts = lines
    items = [item for part in parts if (item := " ".join(part.strip("[](){}*`\"'., ").lower().split()))]
    return items or None


def read_json(text: str) -> dict[str, object] | None:
    """Read the first JSON object in a text, one after "answer is" before others.

    Example:
        >>> read_json('Here it is: {"age": 31}.'), read_json("{age}")
        ({'age': 31}, None)
    """
    decoder = json.JSONDecoder()
    for part, _ in _parts(text):
        for start in islice(re.finditer(r"\{", part), 1000):
            try:
                value, _ = decoder.raw_decode(part, start.start())
            except RecursionError:
                return None
            except ValueError:
                continue
            if isinstance(value, dict):
                return value
    return None


def _numbers(text: str, answer: str) -> bool:
    got, want = read_number(text), read_number(answer)
    return got is not None and want is not None and math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-12)


def _exact(text: str, answer: str) -> bool:
    want = _bare(_plain(answer))
    got = {read_exact(text) or "", _bare(next(iter(_lines(_plain(text))), ""))}
    if not want:
        return text.strip() == answer.strip() != ""
    if want.isupper():  # "OX" is the upper case of "ox"
        return want in got
    if want.islower():  # a sentence may begin with "Ox", but "OX" is another text
        return not got.isdisjoint({want, want[0].upper() + want[1:]})
    return want.lower() in {one.lower() for one in got}


def _list(text: str, answer: str) -> bool:
    got, want = read_list(text), read_list(answer)
    return got is not None and want is not None and (got == want or (len(got) == 1 and got[0].split() == want))


def _set(text: str, answer: str) -> bool:
    got = read_list(text)
    return got is not None and set(got) == set(read_list(answer) or [])


def _json(text: str, answer: str) -> bool:
    got, want = read_json(text), read_json(answer)
    return got is not None and want is not None and same_json(got, want)


def same_json(got: object, want: object) -> bool:
    """Tell whether two JSON values say the same: the same keys, numbers by value, texts without case.

    Example:
        >>> same_json({"age": 31}, {"age": "31"}), same_json({"age": 31, "name": "Ada"}, {"age": 31})
        (True, False)
    """
    if isinstance(got, dict) and isinstance(want, dict):
        return got.keys() == want.keys() and all(same_json(got[key], want[key]) for key in want)
    if isinstance(got, list) and isinstance(want, list):
        return len(got) == len(want) and all(map(same_json, got, want))
    a, b = str(got).strip().lower(), str(want).strip().lower()
    return a == b or bool(NUMBER.fullmatch(a) and NUMBER.fullmatch(b) and _value(a) == _value(b))


def _same(read: Callable[[str], str | None]) -> Callable[[str, str], bool]:
    """A grader that compares what one reader reads; an answer it cannot read stands as it is."""
    return lambda text, answer: (got := read(text)) is not None and got == (read(answer) or answer.strip().strip("()"))


GRADERS: dict[str, Callable[[str, str], bool]] = {
    "choice": lambda text, answer: (got := read_choice(text)) is not None and got == read_choice(answer),
    "number": _numbers,
    "exact": _exact,
    "list": _list,
    "set": _set,
    "json": _json,
    "option": _same(read_option),
    "mmlu-pro": _same(read_mmlu_pro),
    "integer": _same(read_integer),
    "math": lambda text, answer: (got := read_math(text)) is not None and same_math(got, answer),
}
"""Each grader tells whether a text gives the right answer."""

READERS: dict[str, Callable[[str], object]] = {
    "choice": read_choice,
    "number": read_number,
    "exact": read_exact,
    "list": read_list,
    "set": lambda text: sorted(set(items)) if (items := read_list(text)) else None,
    "json": read_json,
    "option": read_option,
    "mmlu-pro": read_mmlu_pro,
    "integer": read_integer,
    "math": read_math,
    "code": read_program,
    "pairwise": lambda text: text.strip() or None,
}
"""What each grader reads out of a text; None is unparsed."""

CODE, PAIRWISE = "code", "pairwise"
NAMES = (*GRADERS, CODE, PAIRWISE)
"""All graders: `code` runs the text as a program and needs permission, `pairwise` asks a judge (`data.pairwise`)."""


class GraderError(CounterpointError):
    """A grader that cannot be used here; the text says what it needs."""


def why_not(grader: str, *, allow_code: bool = False, judge: bool = False) -> str | None:
    """Tell in one line what a grader needs before anything is asked, or None where it can be used.

    Args:
        grader: Its name.
        allow_code: Whether programs that experts wrote may be run.
        judge: Whether there is an expert that judges.

    Example:
        >>> why_not("code")
        'the grader code runs programs that experts wrote: allow it (allow_code, --allow-code)'
    """
    if grader == CODE:
        return no_sandbox() if allow_code else f"the grader {CODE} runs programs that experts wrote: allow it (allow_code, --allow-code)"
    if grader == PAIRWISE:
        return None if judge else f"the grader {PAIRWISE} needs a judge: name an expert that compares two answers (--judge)"
    return no_mathematics() if grader == "math" else None


def grade(grader: str, text: str, answer: str, *, allow_code: bool = False) -> bool:
    """Tell whether a text gives the right answer.

    Args:
        grader: Name of the grader.
        text: What an expert wrote.
        answer: The right answer.
        allow_code: Whether a program in the text may be run, in a sandbox.

    Raises:
        ValueError: No grader has that name.
        GraderError: The grader cannot be used here.

    Example:
        >>> grade("number", "It is 42.", "42"), grade("choice", "I am not sure", "B")
        (True, False)
    """
    if grader not in NAMES:
        raise ValueError(f"no grader is called {grader!r}; there are {', '.join(NAMES)}")
    if grader in (CODE, PAIRWISE):
        if missing := why_not(grader, allow_code=allow_code):
            raise GraderError(missing)
        return passes(text, answer).passed
    return GRADERS[grader](text, answer)


def prediction(grader: str, text: str) -> str | None:
    """Write what a grader reads out of a text, or None where it reads nothing.

    Example:
        >>> prediction("number", "It is 1,234,567."), prediction("choice", "I do not know.")
        ('1234567', None)
    """
    value = READERS[grader](text)
    if value is None or isinstance(value, str):
        return value
    return f"{value + 0.0:.15g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
