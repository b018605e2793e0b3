"""JSON schemas that anyone may send: taken or refused at once, and answers checked against them within bounds."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import unquote

from aggregator.structured import form_of
from data.records import CounterpointError

MAX_BYTES = 32 << 10
"""Longest schema."""
CHECK_S = 0.5
"""Seconds of work that the check of one answer may take: a schema of a few lines can ask for years."""
SCHEMA_S = 3.0
"""Seconds of work that the check of a schema itself may take: in proportion to its length, about 0.3 for a thousand parts."""
DIALECTS = ("https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema")
"""Versions of JSON schema that `$schema` may name; the first where it names none."""

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
        schema = _read(text)
        for each in _walk(schema):
            regex.compile(each)
        base = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        keywords = {**base.VALIDATORS, "pattern": pattern, "uniqueItems": unique}
        kind = jsonschema.validators.extend(base, {name: bounded(keyword) for name, keyword in keywords.items()})
        ends[0] = time.thread_time() + SCHEMA_S
        wrong = jsonschema.exceptions.best_match(kind(base.META_SCHEMA).iter_errors(schema))
    except ValueError as error:
        raise SchemaError(f"the schema is no JSON: {error}") from error
    except regex.error as error:
        raise SchemaError(f"a pattern is no regular expression: {error}") from error
    except _TooMuch as error:
        raise SchemaError("the schema takes too long to check") from error
    except RecursionError as error:
        raise SchemaError("the schema nests too deep") from error
    if wrong is not None:
        raise SchemaError(f"{wrong.json_path.removeprefix('$').lstrip('.') or 'the schema'}: {wrong.message}"[:300])
    validator = kind(schema, registry=Registry())

    def check(value: Any) -> str | None:
        try:
            with alone:
                ends[0] = time.thread_time() + CHECK_S
                wrong = next(validator.iter_errors(value), None)
        except _TooMuch:
            return "it takes too long to check"
        except RecursionError:
            return "it nests too deep"
        except Exception as error:  # numbers that no machine compares, and what else a stranger's schema may come to
            return f"it cannot be checked ({type(error).__name__})"
        if wrong is None:
            return None
        place = wrong.json_path.removeprefix("$").lstrip(".")
        return " ".join(f"{place + ': ' if place else ''}{wrong.message}".split())[:200]

    return check


def _walk(schema: Any) -> list[str]:
    """The patterns of a schema.

    Raises:
        SchemaError: It refers to what is no schema of its own, or says what cannot be checked within bounds.
    """
    patterns: list[str] = []
    references: list[str] = []
    places: set[tuple[str, ...]] = set()
    open_parts: list[tuple[Any, tuple[str, ...], bool]] = [(schema, (), False)]
    while open_parts:
        part, place, named = open_parts.pop()
        if isinstance(part, bool) or (isinstance(part, dict) and not named):
            places.add(place)
        if isinstance(part, list):
            open_parts += [(each, (*place, str(at)), False) for at, each in enumerate(part)]
        if not isinstance(part, dict):
            continue
        if not named:
            if unbounded := next((word for word in _UNBOUNDED if word in part), None):
                raise SchemaError(f"{unbounded} is not supported in schemas")
            if part is not schema and "$id" in part:
                raise SchemaError("$id is supported at the top of a schema only")
            version = part.get("$schema", DIALECTS[0])
            if not isinstance(version, str) or version.rstrip("#") not in DIALECTS:
                raise SchemaError(f"$schema: wanted {' or '.join(DIALECTS)}, not {str(version)[:80]!r}")
            references += [part["$ref"]] if "$ref" in part else []
            patterns += [part["pattern"]] if isinstance(part.get("pattern"), str) else []
        inner = [(each, (*place, word), not named and word in _NAMED) for word, each in part.items() if named or word not in _VALUES]
        open_parts += inner
    for target in references:  # to what was walked, and nothing else: a value may hold what no schema may
        if not isinstance(target, str) or (target != "#" and not target.startswith("#/")):
            raise SchemaError(f"$ref: a schema refers to its own parts only, as in #/$defs/name, not to {str(target)[:80]!r}")
        if tuple(unquote(step).replace("~1", "/").replace("~0", "~") for step in target.split("/")[1:]) not in places:
            raise SchemaError(f"$ref: {target[:80]!r} is no schema in this one")
    return patterns


def misfit(schema: str, text: str) -> str | None:
    """Say what keeps a text from being JSON by a schema, or None.

    Example:
        >>> misfit('{"type": "object"}', '{"a": 1}'), misfit('{"type": "object"}', "[]")
        (None, "[] is not of type 'object'")
    """
    try:
        value = _read(text)
    except RecursionError:
        return "it nests too deep"
    except ValueError as error:
        return f"it is no JSON: {error}"
    return checker(schema)(value)


def _read(text: str) -> Any:
    return json.loads(text, parse_constant=_no_number, parse_float=_number)


def _number(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no number that can be read")
