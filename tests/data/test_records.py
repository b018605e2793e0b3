import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import CONTEXT, Message, Request

USER = st.builds(Message, st.just("user"), st.text("abc ", min_size=1, max_size=2 * CONTEXT))
OTHERS = st.builds(Message, st.sampled_from(["assistant", "system"]), st.text("XYZ", max_size=2 * CONTEXT))
CONVERSATIONS = st.lists(USER | OTHERS, max_size=8).map(tuple)
LONG = "x" * CONTEXT


def talk(*turns: str) -> Request:
    """The user's turns, each but the last with an answer."""
    return Request("r", tuple(Message(role, text) for turn in turns for role, text in (("user", turn), ("assistant", "ANSWER")))[:-1])


@given(CONVERSATIONS)
def test_what_is_asked_are_the_users_last_turns_in_order_and_no_more_than_are_needed(messages: tuple[Message, ...]) -> None:
    request = Request("r", messages)
    turns = [message.content for message in messages if message.role == "user"]
    tails = ["\n\n".join(turns[at:]) for at in range(len(turns), -1, -1)]  # from no turns to all
    enough = next((tail for tail in tails if len(tail) >= CONTEXT), tails[-1])
    assert request.asked == enough
    assert request.asked.endswith(request.question)


@given(CONVERSATIONS)
def test_what_experts_and_operators_said_is_not_asked(messages: tuple[Message, ...]) -> None:
    assert not set("XYZ") & set(Request("r", messages).asked)


def test_a_long_last_turn_stands_alone() -> None:
    assert talk("Sort a list in Java.", LONG).asked == LONG
    assert talk("Sort a list in Java.", LONG[1:]).asked == f"Sort a list in Java.\n\n{LONG[1:]}"


def test_a_short_last_turn_carries_the_turns_before_it_until_they_are_enough() -> None:
    assert talk("One?", "Two?", "Three?").asked == "One?\n\nTwo?\n\nThree?"
    assert talk("One?", LONG, "Three?").asked == f"{LONG}\n\nThree?"


@pytest.mark.parametrize("messages", [(), (Message("system", "Be brief."),), (Message("assistant", "Hello."),)])
def test_where_no_user_spoke_nothing_is_asked(messages: tuple[Message, ...]) -> None:
    assert Request("r", messages).asked == Request("r", messages).question == ""
