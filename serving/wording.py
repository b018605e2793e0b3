"""What two questions must have in common to the letter before they may be taken for one."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

LONGEST = 1000
"""Characters of the longest question that is compared by its meaning."""
LATIN = 0x24F
"""The last letter of the alphabets whose negations are known."""
FILLERS = frozenset("a an the please kindly hi hello hey thanks do does can".split())
"""Words that change nothing of what is asked."""
NEGATIONS = frozenset(
    "not no nor none neither never nobody nothing nowhere without except unless cannot false "
    "nicht nichts kein keine keinen keinem keiner keines nie niemals niemand ohne weder ne pas non jamais rien sans aucun aucune "
    "sin nunca nada ni ningún ninguno ninguna mai senza niente nessun nessuno nessuna não nem sem nenhum nenhuma".split()
)
"""Words that turn a question round, in English and in some languages beside it."""
NUMERALS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion dozen half quarter "
    "first second third fourth fifth sixth seventh eighth ninth tenth last once twice thrice single double triple both "
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september october "
    "november december".split()
)
"""Words that count or date."""

_QUOTED = re.compile(
    r"```.*?```|`[^`]*`|\"[^\"]*\"|\u201c[^\u201d]*\u201d|\u201e[^\u201c\u201d]*[\u201c\u201d]|\u00ab[^\u00bb]*\u00bb"
    r"|(?<!\w)'[^']*(?:\b'\b[^']*)*'(?!\w)|(?<!\w)\u2018[^\u2019]*(?:\b\u2019\b[^\u2019]*)*\u2019(?!\w)",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"(?P<number>(?:(?<!\w)[.,])?\d+(?:[.,:/]\d+)*\w*)"
    r"|(?P<word>[^\W_]+(?:['\u2019][^\W_]+)*)"
    r"|(?P<soft>(?<=[^\W\d_])[-\u2013](?=[^\W\d_])|(?<![\d)])!|[.,;:?'\u2018\u2019\u2014\u2026])"
    r"|(?P<sign>\S)"
)
_WORD = re.compile(r"\w+")
_IS = re.compile(r"(what|who|where|when|how|why|that|there|here|it|he|she)'s")
_SHORT = {"ca": "can", "wo": "will", "sha": "shall"}


@dataclass(frozen=True, slots=True)
class Reading:
    """A question as it is compared.

    Attributes:
        words: Its words in their order, in lower case, without fillers.
        names: Those of its words that are written like names.
        facts: Quoted strings, then numbers, negations, signs, single letters and abbreviations, in their order.
    """

    words: tuple[str, ...]
    names: frozenset[str]
    facts: tuple[str, ...]

    def rests(self, other: Reading) -> tuple[str, str] | None:
        """The words of each that the other does not have; None where the two are different questions, whatever those mean.

        Example:
            >>> one = read_question("Is a cat bigger than a dog?")
            >>> one.rests(read_question("Is a dog bigger than a cat?")) is None
            True
            >>> one.rests(read_question("is the cat larger than the dog"))
            ('bigger', 'larger')
        """
        mine, theirs = Counter(self.words), Counter(other.words)
        shared = [[word for word in words if word in mine and word in theirs] for words in (self.words, other.words)]
        if self.facts != other.facts or shared[0] != shared[1]:
            return None
        left, right = mine - theirs, theirs - mine
        if bool(left) != bool(right) or left.keys() & self.names or right.keys() & other.names:
            return None
        return " ".join(left.elements()), " ".join(right.elements())


def read_question(text: str) -> Reading | None:
    """Read a question; None where it is too long to be compared by its meaning, or of letters whose negations are not known.

    Example:
        >>> read_question("What's 2.5 + x, if it isn't 'Big'?").facts
        ("'Big'", '2.5', '+', 'x', 'not')
        >>> read_question("\u4e8c\u52a0\u4e8c\u662f\u591a\u5c11") is None
        True
    """
    text = unicodedata.normalize("NFC", text)
    if len(text) > LONGEST or any(letter.isalpha() and ord(letter) > LATIN for letter in text):
        return None
    facts = _QUOTED.findall(text)
    plain = _QUOTED.sub(lambda quoted: f" {' '.join(_WORD.findall(quoted.group()))} ", text)
    shouted = not any(letter.islower() for letter in plain)
    words: list[str] = []
    names: set[str] = set()
    starts = True
    for found in _TOKEN.finditer(plain):
        token = found.group()
        if found.lastgroup in ("soft", "sign"):
            facts += [token] if found.lastgroup == "sign" else []
            starts |= token in ".!?:"
            continue
        parts = _parts(token)
        facts += [part for part in parts if part in NEGATIONS or part in NUMERALS]
        if _is_fact(token, starts) or (len(token) > 1 and token.isupper() and not shouted):
            facts.append(token)
        kept = [part for part in parts if part not in FILLERS]
        words += kept
        if token[0].isupper() and not starts:
            names.update(kept)
        starts = False
    return Reading(tuple(words), frozenset(names), tuple(facts))


def _parts(token: str) -> list[str]:
    """A word in lower case, contractions written out."""
    word = token.casefold().replace("\u2019", "'")
    if word.endswith("n't"):
        return [_SHORT.get(word[:-3], word[:-3]), "not"]
    if word == "cannot":
        return ["can", "not"]
    return [word[:-2], "is"] if _IS.fullmatch(word) else [word]


def _is_fact(token: str, starts: bool) -> bool:
    """Whether a word stands for nothing but itself: a number in any writing, or a letter."""
    if any(letter.isnumeric() for letter in token):
        return True
    return len(token) == 1 and token not in ("a", "i", "I") and not (token == "A" and starts)
