"""JSON schemas that anyone may send: taken or refused at once, and answers checked against them within bounds."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NoReturn

from aggregator.structured import form_of
from data.records import CounterpointError

MAX_BYTES = 32 << 10
"""Longest schema."""
CHECK_S = 0.5
"""Seconds of work that the check of one answer may take: a schema of a few lines can ask for years."""

_UNBOUNDED = ("$dynamicRef", "$recursiveRef", "patternProperties", "unevaluatedItems", "unevaluatedProperties")
_NAMED = ("$defs", "definitions", "dependentSchemas", "properties")
"""Keywords whose objects hold schemas by names of the caller's own."""
_VALUES = ("const", "default", "enum", "examples")

Check = Callable[[Any], str | None]
"""Says what is wrong with a value, in one line, or None."""


class SchemaError(CounterpointError):
    """A schema that is none, or that could not be checked within bounds."""


class _TooMuch(Exception):
    """A check that would take too long."""


@lru_cache(maxsize=256)
def checker(text: str) -> Check:
    """Make what checks values against a schema.

    Nothing is ever fetched: references stay inside the schema.

    Args:
        text: The schema, as JSON.

    Raises:
        SchemaError: It is no schema, is too long, or refers to others.

    Example:
        >>> check = checker('{"type": "object", "required": ["city"]}')
        >>> check({"city": "Rome"}), check({})
        (None, "'city' is a required property")
        >>> checker('{"$ref": "https://example.com/schema.json"}')
        Traceback (most recent call last):
        ...
        serving.schema.SchemaError: $ref: a schema refers to its own parts only, as in #/$defs/name, not to 'https://example.com/schema.json'
    """
    import jsonschema
    import regex
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise SchemaError(f"the schema is longer than {MAX_BYTES} bytes")
    alone, ends = threading.Lock(), [0.0]  # one check at a time, and when its work must be done

    def bounded(keyword: Any) -> Any:
        def validate(validator: Any, wanted: Any, instance: Any, part: Any) -> Iterator[Any]:
            if time.thread_time() > ends[0]:
                raise _TooMuch
            yield from keyword(validator, wanted, instance, part) or ()

        return validate

    def pattern(validator: Any, wanted: str, instance: Any, part: Any) -> Iterator[Any]:
        if not isinstance(instance, str):
            return
        try:
            found = regex.search(wanted, instance, timeout=max(ends[0] - time.thread_time(), 1e-6))
        except TimeoutError as error:
            raise _TooMuch from error
        if not found:
            yield jsonschema.ValidationError(f"{instance!r} does not match {wanted!r}")

    def unique(validator: Any, wanted: bool, instance: Any, part: Any) -> Iterator[Any]:
        if wanted and isinstance(instance, list) and len({form_of(each) for each in instance}) < len(instance):
            yield jsonschema.ValidationError("its items are not unique")

    try:
        schema = json.loads(text)
        patterns, references = _walk(schema)
        base = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        base.check_schema(schema)
        for each in patterns:
            regex.compile(each)
        keywords = {**base.VALIDATORS, "pattern": pattern, "uniqueItems": unique}
        kind = jsonschema.validators.extend(base, {name: bounded(keyword) for name, keyword in keywords.items()})
        validator = kind(schema, registry=Registry())
        for each in dict.fromkeys(references):
            validator._resolver.lookup(each)
    except jsonschema.SchemaError as error:
        raise SchemaError(f"{error.json_path.removeprefix('$').lstrip('.') or 'the schema'}: {error.message}"[:300]) from error
    except regex.error as error:
        raise SchemaError(f"a pattern is no regular expression: {error}") from error
    except Unresolvable as error:
        raise SchemaError(f"$ref: the schema has no part {error.ref!r}") from error
    except RecursionError as error:
        raise SchemaError("the schema nests too deep") from error

    def check(value: Any) -> str | None:
        try:
            with alone:
                ends[0] = time.thread_time() + CHECK_S
                wrong = next(validator.iter_errors(value), None)
        except _TooMuch:
            return "it takes too long to check"
        except RecursionError:
            return "it nests too deep"
        except ArithmeticError as error:  # numbers that no machine compares
            return f"it cannot be checked: {error}"
        if wrong is None:
            return None
        place = wrong.json_path.removeprefix("$").lstrip(".")
        return " ".join(f"{place + ': ' if place else ''}{wrong.message}".split())[:200]

    return check


def _walk(schema: Any) -> tuple[list[str], list[str]]:
    """The patterns and references of a schema.

    Raises:
        SchemaError: It refers to others, or says what cannot be checked within bounds.
    """
    patterns: list[str] = []
    references: list[str] = []
    open_parts: list[tuple[Any, bool]] = [(schema, False)]
    while open_parts:
        part, named = open_parts.pop()
        if isinstance(part, list):
            open_parts += [(each, False) for each in part]
        if not isinstance(part, dict):
            continue
        if not named:
            if unbounded := next((word for word in _UNBOUNDED if word in part), None):
                raise SchemaError(f"{unbounded} is not supported in schemas")
            if part is not schema and "$id" in part:
                raise SchemaError("$id is supported at the top of a schema only")
            if not isinstance(part.get("$schema", ""), str):
                raise SchemaError("$schema must be a text")
            target = part.get("$ref", "#")
            if not isinstance(target, str) or (target != "#" and not target.startswith("#/")):
                raise SchemaError(f"$ref: a schema refers to its own parts only, as in #/$defs/name, not to {str(target)[:80]!r}")
            references += [target] if "$ref" in part else []
            patterns += [part["pattern"]] if isinstance(part.get("pattern"), str) else []
        open_parts += [(each, not named and word in _NAMED) for word, each in part.items() if named or word not in _VALUES]
    return patterns, references


def misfit(schema: str, text: str) -> str | None:
    """Say what keeps a text from being JSON by a schema, or None.

    Example:
        >>> misfit('{"type": "object"}', '{"a": 1}'), misfit('{"type": "object"}', "[]")
        (None, "[] is not of type 'object'")
    """
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_number)
    except RecursionError:
        return "it nests too deep"
    except ValueError as error:
        return f"it is no JSON: {error}"
    return checker(schema)(value)


def _number(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no number that can be read")
