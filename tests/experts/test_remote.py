import pytest

from data.records import Answer, Call, Done, Message, Sampling
from experts import EngineError, make_engine
from experts.base import ExpertSpec


async def ask(kind: str, remote: object, question: str, timeout_s: float = 5.0) -> Answer:
    model = "openai/m" if kind == "litellm" else "m"
    spec = ExpertSpec("far", model, kind, api_base=remote.url, api_key_env="REMOTE_TEST_KEY", timeout_s=timeout_s, price=(1.0, 2.0))  # type: ignore[attr-defined]
    engine = make_engine([spec])
    await engine.start()
    try:
        call = Call("1", "far", (Message("user", question),), Sampling(max_tokens=50))
        return next(event.answer for event in [e async for e in engine.generate([call])] if isinstance(event, Done))
    finally:
        await engine.stop()


@pytest.fixture(params=["openai", "litellm"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_an_answer_bears_its_usage_and_price(kind: str, remote: object) -> None:
    answer = await ask(kind, remote, "capital of France please")
    assert answer.text == "The capital is Paris today."
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 5)
    assert answer.usage.cost_usd == pytest.approx((4 * 1.0 + 5 * 2.0) / 1e6)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_passing_fault_is_tried_again(kind: str, remote: object, status: int) -> None:
    remote.faults[:] = [status, status]  # type: ignore[attr-defined]
    answer = await ask(kind, remote, "capital?")
    assert answer.error is None
    assert len(remote.seen) == 3  # type: ignore[attr-defined]


async def test_a_lasting_fault_ends_in_one_line_with_the_servers_words(kind: str, remote: object) -> None:
    remote.faults[:] = [500] * 10  # type: ignore[attr-defined]
    answer = await ask(kind, remote, "capital?")
    assert answer.error is not None
    assert "500" in answer.error
    assert "fault 500" in answer.error
    assert "\n" not in answer.error


async def test_a_bad_request_is_not_tried_again(kind: str, remote: object) -> None:
    remote.faults[:] = [400]  # type: ignore[attr-defined]
    answer = await ask(kind, remote, "capital?")
    assert answer.error is not None
    assert "400" in answer.error
    assert len(remote.seen) == 1  # type: ignore[attr-defined]


async def test_a_wrong_key_is_told_and_never_shown(kind: str, remote: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTE_TEST_KEY", "sk-secret-wrong-key")
    answer = await ask(kind, remote, "capital?")
    assert answer.error is not None
    assert "401" in answer.error
    assert "sk-secret" not in answer.error


async def test_a_missing_key_is_named_before_anything_is_asked(kind: str, remote: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMOTE_TEST_KEY")
    with pytest.raises(EngineError, match="set the environment variable REMOTE_TEST_KEY"):
        await ask(kind, remote, "capital?")


async def test_a_slow_server_is_given_up_after_the_timeout(kind: str, remote: object) -> None:
    answer = await ask(kind, remote, "be slow", timeout_s=0.5)
    assert answer.error is not None
    assert "did not answer within 0.5 s" in answer.error


async def test_a_stream_that_breaks_off_is_an_error_not_a_short_answer(remote: object) -> None:
    answer = await ask("openai", remote, "break off")
    assert answer.error is not None
    assert "ended before the answer did" in answer.error


async def test_an_address_where_nobody_listens_is_told() -> None:
    spec = ExpertSpec("far", "m", "openai", api_base="http://127.0.0.1:9/v1", timeout_s=3)
    engine = make_engine([spec])
    await engine.start()
    events = [event async for event in engine.generate([Call("1", "far", (Message("user", "x"),))])]
    assert isinstance(events[-1], Done)
    assert "cannot reach http://127.0.0.1:9/v1" in str(events[-1].answer.error)
    await engine.stop()
