import pytest

from router.cards import NOTHING_KNOWN, Card, Situation

GREETER = Card(role="constant", match=("hello|hi( there)?", r"who are you\?"))


@pytest.mark.parametrize("question", ["hello", "Hello!", "  HI there... ", "Hi?!", "Who are you?", "hello\n"])
def test_a_constant_expert_answers_a_whole_question_whatever_its_case_and_closing_marks(question: str) -> None:
    assert GREETER.matches(question)


@pytest.mark.parametrize(
    "question", ["hello, what is 2+2?", "say hello", "hello hello", "hellohi", "hi\nthere", "What are you?", "?", "", "who are you"]
)
def test_a_constant_expert_does_not_answer_what_only_contains_its_words(question: str) -> None:
    assert not GREETER.matches(question)


def test_the_others_match_nothing() -> None:
    assert not Card(match=("hello",)).matches("hello")
    assert not Card(role="shared", match=("hello",)).matches("hello")
    assert not Card(role="constant").matches("hello")


def test_an_expert_without_a_card_costs_nothing_and_competes() -> None:
    assert NOTHING_KNOWN.card("ann") == Card() == Card(usd=0, size_b=0, latency_s=0, age_days=0, role="routed")
    assert Situation({"ann": Card(usd=1.0)}).card("ann").usd == 1
