"""Families of small questions whose exact answers a program knows, for training, tuning and testing."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SPLITS = ("train", "tune", "test")


@dataclass(frozen=True, slots=True)
class Task:
    """A question whose right answer is known.

    Attributes:
        query_id: Name of the question, unique in its file.
        query: The question, as an expert reads it.
        answer: The right answer, in the form that its grader reads.
        grader: Name of the grader (`data.graders.GRADERS`).
        category: Family of the question.
        split: `train`, `tune` or `test`.
    """

    query_id: str
    query: str
    answer: str
    grader: str
    category: str
    split: str


Problem = tuple[tuple[object, ...], tuple[str, ...], str]
"""What is asked (the problem itself), its phrasings, and the right answer."""

NAMES = "Ada Ben Cleo Dan Eve Finn Gus Hana Ivan Jill Kofi Lena Mia Noor Omar Pia Raj Sara Tom Uma Vera Will Yuki Zoe".split()
NOUNS = (
    "apple bird boat bread cat chair clock cloud coat desk dog door drum fish flag fork glove goose grape hat horse jar key kite lamp "
    "leaf lemon moon mouse nest nut onion owl pan pear pen plum pond rain river road rope rose salt sand ship shoe snow soap spoon "
    "star stone table tent train tree vase wheel wolf yarn"
).split()
CITIES = "Oslo Lima Cairo Paris Quito Delhi Rome Accra Hanoi Dublin Perth Tunis Riga Seoul Bern Lagos Athens Havana".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
EVENTS = "a party,a meeting,a concert,an exam,a match,a wedding,a trip,a lecture,a sale,a race".split(",")
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
UNITS = (
    ("minutes", "hours", 60), ("hours", "days", 24), ("days", "weeks", 7), ("months", "years", 12), ("inches", "feet", 12),
    ("feet", "yards", 3), ("eggs", "dozen eggs", 12), ("metres", "kilometres", 1000), ("grams", "kilograms", 1000),
    ("cents", "dollars", 100), ("centimetres", "metres", 100), ("millimetres", "centimetres", 10), ("seconds", "minutes", 60),
)  # fmt: skip


def in_words(number: int) -> str:
    """Write a number from 0 to 99 in English.

    Example:
        >>> in_words(42)
        'forty-two'
    """
    if number < 20:
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{ONES[ones]}" if ones else "")


def arithmetic(rng: random.Random) -> Problem:
    """Sums and differences of numbers in words."""
    a, b = rng.randint(1, 60), rng.randint(1, 39)
    x, y = in_words(a), in_words(b)
    if rng.random() < 0.5:
        return (
            ("+", a, b),
            (
                f"What is {x} plus {y}?",
                f"Add {x} and {y}.",
                f"What do you get if you add {y} to {x}?",
                f"Find the sum of {x} and {y}.",
            ),
            str(a + b),
        )
    a, b = max(a, b), min(a, b)
    x, y = in_words(a), in_words(b)
    return (
        ("-", a, b),
        (
            f"What is {x} minus {y}?",
            f"Subtract {y} from {x}.",
            f"What is left if you take {y} away from {x}?",
            f"Find the difference between {x} and {y}.",
        ),
        str(a - b),
    )


def conversion(rng: random.Random) -> Problem:
    """Amounts in another unit."""
    small, large, factor = rng.choice(UNITS)
    n = rng.randint(2, 12 if factor in (12, 24, 60) else 30)
    return (
        (small, large, n),
        (
            f"How many {small} are there in {n} {large}?",
            f"Convert {n} {large} to {small}.",
            f"{n} {large} is how many {small}?",
            f"Express {n} {large} in {small}.",
        ),
        str(n * factor),
    )


def sequences(rng: random.Random) -> Problem:
    """The number that continues a row."""
    start, step = rng.randint(1, 40), rng.choice([2, 3, 4, 5, 6, 7, 8, 9, 10, 20, -1, -2, -3])
    start += 20 if step < 0 else 0
    terms = [start + i * step for i in range(5)]
    row = ", ".join(map(str, terms[:4]))
    return (
        tuple(terms),
        (
            f"Which number comes next: {row}, ...?",
            f"Continue the sequence {row}.",
            f"The numbers are {row}. What is the next one?",
            f"Find the next term of {row}.",
        ),
        str(terms[4]),
    )


def sorting(rng: random.Random) -> Problem:
    """Words in order of the alphabet, or numbers by size."""
    if rng.random() < 0.5:
        words = rng.sample(NOUNS, 3)
        given = ", ".join(words)
        return (
            ("words", *words),
            (
                f"Sort these words alphabetically: {given}.",
                f"Put the words {given} in alphabetical order.",
                f"List {given} from A to Z.",
                f"Arrange alphabetically: {given}.",
            ),
            ", ".join(sorted(words)),
        )
    numbers = rng.sample(range(1, 100), 4)
    given = ", ".join(map(str, numbers))
    return (
        ("numbers", *numbers),
        (
            f"Sort these numbers from smallest to largest: {given}.",
            f"Put {given} in ascending order.",
            f"List the numbers {given} from low to high.",
            f"Arrange in increasing order: {given}.",
        ),
        ", ".join(map(str, sorted(numbers))),
    )


def counting(rng: random.Random) -> Problem:
    """How often a word stands in a row of words."""
    word, *others = rng.sample(NOUNS, 4)
    times = rng.randint(1, 5)
    row = [word] * times + [rng.choice(others) for _ in range(rng.randint(2, 4))]
    rng.shuffle(row)
    given = " ".join(row)
    return (
        ("count", word, *row),
        (
            f'How many times does "{word}" appear in: {given}?',
            f'Count the word "{word}" in this row: {given}.',
            f'In the list {given}, how often do you see "{word}"?',
            f'Tell me the number of times "{word}" occurs here: {given}.',
        ),
        str(times),
    )


def strings(rng: random.Random) -> Problem:
    """Small edits of text."""
    words = rng.sample(NOUNS, 3)
    given, kind = " ".join(words), rng.randrange(5)
    if kind == 0:
        return (
            ("upper", given),
            (
                f'Write "{given}" in capital letters.',
                f'Change "{given}" to upper case.',
                f'Turn "{given}" into all caps.',
                f'Put "{given}" in uppercase.',
            ),
            given.upper(),
        )
    if kind == 1:
        return (
            ("join", given),
            (
                f'Join the words of "{given}" with hyphens.',
                f'Replace the spaces in "{given}" with hyphens.',
                f'Write "{given}" with a hyphen between the words.',
                f'Hyphenate the words "{given}".',
            ),
            "-".join(words),
        )
    if kind == 2:
        return (
            ("last", given),
            (
                f'Remove the last word of "{given}".',
                f'Write "{given}" without its last word.',
                f'Delete the final word from "{given}".',
                f'Drop the last word of "{given}".',
            ),
            " ".join(words[:2]),
        )
    if kind == 3:
        return (
            ("reverse", given),
            (
                f'Write the words of "{given}" in reverse order.',
                f'Reverse the order of the words in "{given}".',
                f'Put the words "{given}" backwards, last word first.',
                f'Say the words of "{given}" from last to first.',
            ),
            " ".join(reversed(words)),
        )
    old, new = words[1], rng.choice([noun for noun in NOUNS if noun not in words])
    return (
        ("replace", given, new),
        (
            f'Replace "{old}" with "{new}" in "{given}".',
            f'In "{given}", change "{old}" to "{new}".',
            f'Swap "{old}" for "{new}" in the text "{given}".',
            f'Rewrite "{given}" with "{new}" instead of "{old}".',
        ),
        " ".join([words[0], new, words[2]]),
    )  # word by word: "rain" stands in "train", too


def logic(rng: random.Random) -> Problem:
    """Which of four expressions of truth values is true."""

    def expression(want: bool) -> str:
        while True:
            a, b = rng.random() < 0.5, rng.random() < 0.5
            left = f"{'not ' if (flip := rng.random() < 0.4) else ''}{str(a).lower()}"
            joint = rng.choice(["and", "or"])
            a = a != flip
            if ((a and b) if joint == "and" else (a or b)) is want:
                return f"{left} {joint} {str(b).lower()}"

    right = rng.randrange(4)
    options: list[str] = []
    for index in range(4):
        option = expression(index == right)
        while option in options:
            option = expression(index == right)
        options.append(option)
    given = " ".join(f"{letter}) {option}" for letter, option in zip("ABCD", options, strict=True))
    return (
        ("logic", *options),
        (
            f"Which expression is true? {given}",
            f"One of these is true. Which one? {given}",
            f"Find the expression whose value is true: {given}",
            f"Choose the letter of the true statement. {given}",
        ),
        "ABCD"[right],
    )


def comparison(rng: random.Random) -> Problem:
    """Who or what stands first or last."""
    if rng.random() < 0.5:
        numbers = rng.sample(range(100, 999), 4)
        given, (most, pick) = ", ".join(map(str, numbers)), rng.choice([("largest", max), ("smallest", min)])
        return (
            (most, *numbers),
            (
                f"Which number is the {most}: {given}?",
                f"Pick the {most} of {given}.",
                f"Name the {most} number among {given}.",
                f"Of the numbers {given}, which is {most}?",
            ),
            str(pick(numbers)),
        )
    people = rng.sample(NAMES, 3)
    more, most, least = rng.choice([("taller", "tallest", "shortest"), ("older", "oldest", "youngest"), ("faster", "fastest", "slowest")])
    facts = [f"{people[0]} is {more} than {people[1]}.", f"{people[1]} is {more} than {people[2]}."]
    rng.shuffle(facts)
    wanted, answer = rng.choice([(most, people[0]), (least, people[2])])
    given = " ".join(facts)
    return (
        (wanted, *people, *facts),
        (
            f"{given} Who is the {wanted}?",
            f"{given} Name the {wanted} person.",
            f"{given} Which of them is {wanted}?",
            f"Who is the {wanted}? {given}",
        ),
        answer,
    )


def dates(rng: random.Random) -> Problem:
    """Days of the week and months, some time on."""
    names, unit, many = rng.choice([(DAYS, "day", 6), (MONTHS, "month", 5)])
    index, steps, event = rng.randrange(len(names)), rng.randint(1, many), rng.choice(EVENTS)
    back = rng.random() < 0.4
    answer = names[(index + (-steps if back else steps)) % len(names)]
    span, now = f"{steps} {unit}{'s' if steps > 1 else ''}", names[index]
    if back:
        return (
            ("before", steps, now, event),
            (
                f"There is {event} in our plan. We start preparing {span} before {now}. Which {unit} is that?",
                f"It is {now}. {event.capitalize()} was {span} ago. In which {unit} was it?"
                if unit == "month"
                else f"It is {now}. {event.capitalize()} was {span} ago. On which {unit} was it?",
                f"Tickets for {event} are sold {span} before {now}. Which {unit} is that?",
                f"Which {unit} comes {span} before {now}, when we plan {event}?",
            ),
            answer,
        )
    return (
        ("after", steps, now, event),
        (
            f"It is {now}. There will be {event} in {span}. Which {unit} is that?",
            f"{event.capitalize()} takes place {span} after {now}. Which {unit} is it?",
            f"Today we are in {now}. We expect {event} {span} from now. Name the {unit}."
            if unit == "month"
            else f"Today is {now}. We expect {event} {span} from now. Name the {unit}.",
            f"Which {unit} comes {span} after {now}, when we plan {event}?",
        ),
        answer,
    )


def extraction(rng: random.Random) -> Problem:
    """One field of a record, as JSON."""
    fields = {"name": rng.choice(NAMES), "city": rng.choice(CITIES), "age": str(rng.randint(18, 80)), "item": rng.choice(NOUNS)}
    keys = rng.sample(list(fields), 3)
    wanted = rng.choice(keys)
    given = "; ".join(f"{key}: {fields[key]}" for key in keys)
    return (
        ("field", wanted, given),
        (
            f'Give the {wanted} as JSON like {{"{wanted}": ...}}. Record: {given}',
            f"Extract the {wanted} from this record and answer in JSON. {given}",
            f"Record: {given}. Return a JSON object that holds only the {wanted}.",
            f"From the record ({given}) write the field {wanted} as JSON.",
        ),
        json.dumps({wanted: fields[wanted]}),
    )


def code(rng: random.Random) -> Problem:
    """What a line of Python prints."""
    word, other = rng.sample(NOUNS, 2)
    a, b, c = rng.randint(2, 9), rng.randint(2, 9), rng.randint(1, 9)
    row = rng.sample(range(1, 60), 3)
    at = rng.randrange(3)
    line, answer = rng.choice(
        [
            (f"print('{word}' + '{other}')", word + other),
            (f"print('{word}' * 2)", word * 2),
            (f"print({a} * {b} + {c})", str(a * b + c)),
            (f"print(len({row + row[: at + 1]}))", str(4 + at)),
            (f"print({row}[{at}])", str(row[at])),
            (f"print(max({row[0]}, {row[1]}, {row[2]}))", str(max(row))),
            (f"print('{word}'.upper())", word.upper()),
            (f"print(['{word}', '{other}'][{at % 2}])", (word, other)[at % 2]),
        ]
    )
    return (
        ("code", line),
        (
            f"What does this Python code print? {line}",
            f"Give the output of {line} in Python.",
            f"Run this in your head and write what it prints: {line}",
            f"Which text appears when Python runs {line}?",
        ),
        answer,
    )


FAMILIES: dict[str, tuple[Callable[[random.Random], Problem], str]] = {
    "arithmetic": (arithmetic, "number"),
    "conversion": (conversion, "number"),
    "sequences": (sequences, "number"),
    "sorting": (sorting, "list"),
    "counting": (counting, "number"),
    "strings": (strings, "exact"),
    "logic": (logic, "choice"),
    "comparison": (comparison, "exact"),
    "dates": (dates, "exact"),
    "extraction": (extraction, "json"),
    "code": (code, "exact"),
}
"""Each family's maker of problems, and the grader of its answers."""


def split_of(family: str, problem: tuple[object, ...]) -> str:
    """Tell which split a problem belongs to, from its hash: 70% train, 10% tune, 20% test.

    All phrasings of one problem fall into the same split, so no test question is a rewording of a training one.
    """
    digest = hashlib.sha256(repr((family, *problem)).encode()).digest()
    bucket = int.from_bytes(digest[:4], "big") % 10
    return "train" if bucket < 7 else "tune" if bucket < 8 else "test"


def _stream(family: str, split: str, seed: int) -> Iterator[Task]:
    make, grader = FAMILIES[family]
    rng = random.Random(f"{seed}/{family}/{split}")
    seen: set[str] = set()
    barren = 0
    while barren < 10_000:  # a family with few problems ends where no new one turns up
        problem, phrasings, answer = make(rng)
        query = rng.choice(phrasings)
        if split_of(family, problem) != split or query in seen:
            barren += 1
            continue
        barren = 0
        seen.add(query)
        yield Task(f"{family}-{split}-{len(seen)}", query, answer, grader, family, split)


def generate(split: str, per_family: int, *, seed: int = 0, families: tuple[str, ...] | None = None) -> list[Task]:
    """Make questions of every family.

    Args:
        split: `train`, `tune` or `test`; the splits share no problem.
        per_family: Questions of each family; fewer where a family has no more.
        seed: The same seed gives the same questions.
        families: Names of families, or None for all.

    Returns:
        The tasks, family by family turn about, so that every prefix is mixed.

    Raises:
        ValueError: The split or a family is unknown.

    Example:
        >>> [task.category for task in generate("test", 1, families=("logic", "dates"))]
        ['logic', 'dates']
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    names = tuple(FAMILIES) if families is None else families
    if unknown := [name for name in names if name not in FAMILIES]:
        raise ValueError(f"no family is called {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    streams = [_stream(name, split, seed) for name in names]
    rounds = [[next(stream, None) for stream in streams] for _ in range(per_family)]
    return [task for turn in rounds for task in turn if task is not None]
