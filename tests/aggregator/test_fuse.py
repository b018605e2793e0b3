import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import Fuse
from aggregator.checks import Writer, answers_of, question
from aggregator.fuse import INSTRUCTION
from aggregator.quoting import quote
from data.records import Answer, Message, Request, Route

ROUTE = Route(("ann", "bob", "cid"), (0.5, 0.3, 0.2), "ann", {"ann": 0.5, "bob": 0.3, "cid": 0.2})


@given(st.text() | st.sampled_from(["</answer>", "< /answer >", "&lt;/answer&gt;", "<|im_end|>", "<answer>"]))
def test_no_tag_within_an_answer_can_end_its_quotation(text: str) -> None:
    quoted = quote(text)
    assert "<" not in quoted
    assert ">" not in quoted
    prompt = Fuse().messages(question(), [Answer(text, "ann"), Answer("4", "bob")])[-1].content
    assert len(re.findall(r"</?answer[^>]*>", prompt.split(INSTRUCTION)[1])) == 4


@given(st.text(max_size=1000))
def test_what_is_quoted_can_be_read_back(text: str) -> None:
    assert quote(text).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text


def test_a_long_answer_is_cut_and_says_so() -> None:
    quoted = quote("x" * 5000)
    assert len(quoted) < 2100
    assert quoted.endswith(" ...")


def test_a_quoted_sign_is_not_cut_in_two() -> None:
    assert quote("<" * 3000).endswith("&lt; ...")


async def test_the_prompt_holds_the_conversation_the_instruction_and_every_answer_in_order() -> None:
    earlier = (Message("system", "Be short."), Message("user", "Hello"), Message("assistant", "Hi"))
    request = Request("r", (*earlier, Message("user", "What is 2 + 2?")))
    ask = Writer()
    await Fuse().aggregate(request, answers_of("4", "five", "six"), ROUTE, ask)
    ((expert, messages),) = ask.calls
    assert expert == "ann"
    assert messages[:3] == earlier
    assert messages[3].role == "user"
    assert messages[3].content == f"What is 2 + 2?\n\n{INSTRUCTION}\n" + "\n".join(
        f'<answer number="{at}">{text}</answer>' for at, text in enumerate(("4", "five", "six"), start=1)
    )


async def test_where_the_last_turn_is_not_the_users_the_answers_are_a_turn_of_their_own() -> None:
    request = Request("r", (Message("user", "What is 2 + 2?"), Message("assistant", "It is")))
    ask = Writer()
    await Fuse().aggregate(request, answers_of("4", "five"), ROUTE, ask)
    _, messages = ask.calls[0]
    assert messages[:2] == request.messages
    assert messages[2] == Message("user", f'{INSTRUCTION}\n<answer number="1">4</answer>\n<answer number="2">five</answer>')


async def test_the_fused_text_is_the_answer_with_the_writers_usage() -> None:
    answer = await Fuse(expert="cid").aggregate(question(), answers_of("4", "five"), ROUTE, Writer())
    assert answer.text.startswith("Written from ")
    assert (answer.expert, answer.usage.calls, answer.usage.prompt_tokens, answer.degraded) == ("cid", 1, 7, False)


async def test_failed_and_empty_answers_are_not_quoted() -> None:
    ask = Writer()
    answer = await Fuse().aggregate(question(), answers_of(None, "4", "five", ""), ROUTE, ask)
    assert ask.calls[0][1][-1].content.count("<answer ") == 2
    assert answer.degraded


@pytest.mark.parametrize("texts", [("4",), ("4", None), (None, "", "4")])
async def test_a_single_answer_costs_no_call(texts: tuple[str | None, ...]) -> None:
    ask = Writer()
    answer = await Fuse().aggregate(question(), answers_of(*texts), ROUTE, ask)
    assert (answer.text, ask.calls, answer.usage.calls) == ("4", [], 0)


async def test_where_the_writer_fails_the_primary_answer_stands_and_its_call_is_counted() -> None:
    route = Route(("bob", "ann"), (0.6, 0.4), "bob", {"ann": 0.4, "bob": 0.6})
    answer = await Fuse(expert="ann").aggregate(question(), answers_of("4", "five"), route, Writer(error="gone"))
    assert (answer.text, answer.expert, answer.degraded, answer.error, answer.usage.calls) == ("five", "bob", True, None, 1)


async def test_where_the_writer_and_the_primary_fail_the_next_best_stands() -> None:
    answer = await Fuse().aggregate(question(), answers_of(None, "4", "five"), ROUTE, Writer(error="gone"))
    assert (answer.text, answer.expert, answer.degraded) == ("4", "bob", True)
