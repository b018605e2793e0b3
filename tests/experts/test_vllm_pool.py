"""What vLLM gets and gives through the pool is what it gets and gives directly."""

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from data.records import Call, Message, Sampling
from experts import ExpertSpec, make_engine
from experts.checks import collect
from experts.models import installed, resolve
from experts.pool import ExpertPool, PoolSettings
from experts.slot import start_ray

BASE = "packaged:smollm2-135m-instruct"
QUESTIONS = ["What is the capital of France?", "Count to five.", "Write the word blue."]
SPEC = ExpertSpec("e", BASE, "vllm", system="Answer briefly.", max_tokens=16, max_model_len=512, dtype="float32")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    if find_spec("ray") is None or find_spec("vllm") is None or not installed("smollm2-135m-instruct"):
        pytest.skip("Ray, vLLM or the packaged model is not installed here")
    start_ray(2)
    yield
    import ray

    ray.shutdown()


def calls(sampling: Sampling) -> list[Call]:
    return [Call(str(at), "e", (Message("user", question),), sampling) for at, question in enumerate(QUESTIONS)]


def test_prompts_and_sampling_are_those_that_one_would_give_vllm() -> None:
    from transformers import AutoTokenizer
    from vllm import SamplingParams

    from experts.vllm_settings import Running

    tokenizer: Any = AutoTokenizer.from_pretrained(resolve(BASE))
    for call in calls(Sampling(max_tokens=9, temperature=0.7, top_p=0.9, seed=5, stop=("END",))):
        prompt, given = Running(call, SPEC, asyncio.Queue()).request(tokenizer)
        messages = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": call.messages[0].content}]
        wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        assert prompt["prompt_token_ids"] == wanted
        direct = SamplingParams(max_tokens=9, temperature=0.7, top_p=0.9, seed=5, stop=given.stop)
        for name in ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "n", "repetition_penalty", "logprobs"):
            assert getattr(given, name) == getattr(direct, name), name
        assert "END" in given.stop


async def test_answers_one_at_a_time_in_float32_are_those_of_the_engine_alone() -> None:
    engine = make_engine([SPEC])
    await engine.start()
    alone = []
    for call in calls(Sampling()):
        answers, _ = await collect(engine, [call])
        alone.append(answers[call.id].text)
    await engine.stop()
    async with ExpertPool([SPEC], PoolSettings(max_wait_s=60)) as pool:
        pooled = [(await pool.answer(call)).text for call in calls(Sampling())]
    assert pooled == alone
    assert all(pooled)
