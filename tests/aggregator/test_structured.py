from collections.abc import Callable

import pytest

from aggregator import KINDS, AggregatorError, Choosing, Structured
from aggregator.checks import CHECKS, Make, Writer, question
from aggregator.structured import canonical
from data.records import Answer, Route, TokenLogprob, ToolCall, Usage

ROUTE = Route(("ann", "bob", "cid"), (0.4, 0.3, 0.3), "ann", {"ann": 0.4, "bob": 0.3, "cid": 0.3})


def calling(expert: str, *arguments: str, text: str = "") -> Answer:
    calls = tuple(ToolCall(f"{expert}{at}", "weather", each) for at, each in enumerate(arguments))
    return Answer(text, expert, Usage(3, 2, 0.0, 1), "tool_calls", tool_calls=calls)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('{"a": 1, "b": [1, 2]}', ' {"b":[1.0,2],"a":1e0}\n', True),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": "\\u00e9"}', '{"a": "é"}', True),
        ('"yes"', "yes", False),
        ("[" * 100_000, "[" * 99_999, False),
    ],
)
def test_equal_values_have_one_form(one: str, other: str, equal: bool) -> None:
    assert (canonical(Answer(one, "a")) == canonical(Answer(other, "b"))) is equal


async def test_equal_calls_are_counted_together_and_the_heaviest_is_given_whole() -> None:
    said = [calling("ann", '{"city": "Rome"}'), calling("bob", '{"city":"Paris"}', "{}"), calling("cid", '{"city": "Paris"}', "{}")]
    answer = await Structured().aggregate(question(), said, ROUTE, Writer())
    assert (answer.expert, answer.tool_calls, answer.finish_reason) == ("bob", said[1].tool_calls, "tool_calls")
    assert answer.usage == Usage()
    assert [weight for _, weight in answer.support] == [0.6, 0.4]
    more = [*said[:2], calling("cid", '{"city": "Paris"}')]
    assert (await Structured().aggregate(question(), more, ROUTE, Writer())).expert == "ann", "another number of calls is another answer"


async def test_tokens_stay_with_their_words() -> None:
    tokens = (TokenLogprob("4", -0.1),)
    said = [Answer("5", "ann"), Answer("4.0", "bob"), Answer("4", "cid", tokens=tokens)]
    route = Route(ROUTE.experts, (0.3, 0.3, 0.4), "ann", ROUTE.scores)
    answer = await Structured().aggregate(question(), said, route, Writer())
    assert (answer.text, answer.tokens) == ("4", tokens)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_that_chooses_gives_calls_whole_and_every_other_is_refused(kind: str, make: Callable[[str], Make]) -> None:
    inner = make(kind)()
    if not inner.replays:
        with pytest.raises(AggregatorError, match=f"the aggregator '{kind}' writes answers of its own"):
            Choosing(inner)
        return
    said = [calling("ann", '{"city": "Paris"}'), calling("bob", '{"city":"Paris"}'), calling("cid", '{"city": "Paris"}')]
    answer = await Choosing(inner).aggregate(question("What is the weather?"), said, ROUTE, Writer())
    assert answer.error is None
    assert answer.tool_calls in [each.tool_calls for each in said]
    alone = await Choosing(make(kind)()).aggregate(question(), [said[0], Answer.failed("bob", "down")], ROUTE, Writer())
    assert (alone.tool_calls, alone.degraded) == (said[0].tool_calls, True)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_kind_that_chooses_among_objects_is_as_every_aggregator_must_be(
    check: Callable[[Make], object], make: Callable[[str], Make]
) -> None:
    await check(lambda: Choosing(make("vote")()))  # type: ignore[misc]
