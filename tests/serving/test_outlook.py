from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from router import KINDS
from router.drift import LEAST
from router.stack import StackRouter
from serving.config import ASSETS
from serving.drift import drift_json, training_texts
from serving.store import Store
from tests.serving.test_gateway import FRANCE, chat, served

TEXTS = [f"What is {n} plus {n + 3}?" for n in range(30)] + [f"Spell the word number {n} of the list." for n in range(30)]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"query_id": str(at), "query": text, "expert": expert, "score": float((at < 30) == (expert == "a")), "category": at < 30}
            for at, text in enumerate(TEXTS)
            for expert in "ab"
        ]
    ).assign(category=lambda rows: rows["category"].map({True: "sums", False: "words"}))


@pytest.fixture(scope="module")
def stack(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("routers") / "mine"
    StackRouter(members=("category", "linear", "knn")).fit(table).save(folder)
    return folder


def by(path: Path) -> dict[str, Any]:
    return {"router": {"path": str(path), "policy": {"kind": "top-k", "k": 1}}}


async def test_the_router_is_told_with_its_profile_and_its_map(stack: Path) -> None:
    async with served(**by(stack)) as client:
        told = (await client.get("/v1/routers")).json()
        again = (await client.get("/v1/routers")).json()
    assert (told["object"], told["router"]["name"], told["router"]["kind"], told["experts"]) == (
        "counterpoint.routers", "mine", "stack", ["a", "b"]
    )  # fmt: skip
    assert str(stack) not in str(told), "a path of this machine is nobody's business"
    assert (told["router"]["questions"], told["router"]["answers"]) == (60, {"a": 60, "b": 60})
    assert told["router"]["members"] == ["category", "linear", "knn"]
    assert (told["profile"]["by"], told["profile"]["rows"]) == ("category", ["sums", "words"])
    assert [row.index(max(row)) for row in told["profile"]["quality"]] == [0, 1]
    assert (told["map"]["of"], len(told["map"]["points"])) == ("questions", 60)
    assert {point["best"] for point in told["map"]["points"][:30]} == {"a"}
    assert (told["drift"]["questions"], told["drift"]["note"]) == (0, "traces are kept where serving.store names a place")
    assert told["tried"] == ["mixture", "mixture/category", "mixture/linear", "mixture/knn", "random", "best-single"]
    assert told == again


async def test_a_text_is_scored_by_each_router_and_finds_its_place(stack: Path) -> None:
    async with served(**by(stack)) as client:
        told = (await client.get("/v1/routers")).json()
        tried = (await client.post("/v1/routers/try", json={"text": TEXTS[7]})).json()
        route = (await client.post("/v1/route", json=chat(TEXTS[7]))).json()
    scores = {entry["name"]: entry["scores"] for entry in tried["routers"]}
    assert [*scores] == told["tried"]
    assert scores["mixture"] == route["scores"]
    assert scores["best-single"] == {"a": 0.5, "b": 0.5}
    assert all(row.keys() == {"a", "b"} and all(0 <= score <= 1 for score in row.values()) for row in scores.values())
    assert [entry["name"] for entry in tried["routers"] if entry["baseline"]] == ["random", "best-single"]
    first = tried["nearest"][0]
    assert (first["text"], first["point"], first["best"]) == (TEXTS[7], 7, "a")
    point = told["map"]["points"][7]
    assert (tried["place"]["x"], tried["place"]["y"]) == pytest.approx((point["x"], point["y"]), abs=0.02)


async def test_without_a_router_all_experts_are_equal() -> None:
    async with served() as client:
        told = (await client.get("/v1/routers")).json()
        tried = (await client.post("/v1/routers/try", json={"text": "Hi"})).json()
    assert (told["router"], told["map"], told["profile"], told["experts"], told["tried"]) == (None, None, None, ["a", "b"], ["equal"])
    assert (tried["routers"][0]["scores"], tried["place"], tried["nearest"]) == ({"a": 0.5, "b": 0.5}, None, [])


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": 3}, {"text": "x" * 100_001}, {"text": "x", "router": "knn"}, []])
async def test_what_is_no_text_is_refused(body: object) -> None:
    async with served() as client:
        assert (await client.post("/v1/routers/try", json=body)).status_code == 400


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_router_is_told(kind: str, table: pd.DataFrame, tmp_path: Path) -> None:
    KINDS[kind]().fit(table).save(tmp_path / kind)
    async with served(**by(tmp_path / kind)) as client:
        told = await client.get("/v1/routers")
        tried = await client.post("/v1/routers/try", json={"text": "What is 1 plus 1?"})
    assert (told.status_code, tried.status_code) == (200, 200)
    assert told.json()["router"]["kind"] == kind
    assert tried.json()["routers"][0]["kind"] == kind


async def test_another_config_brings_another_router(stack: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    from serving.gateway import Gateway
    from tests.serving.test_gateway import config

    KINDS["best-single"]().fit(table).save(tmp_path / "other")
    gateway = Gateway(config(**by(stack)))
    await gateway.start()
    try:
        first = await gateway.outlook.described()
        await gateway.begin_reload(config(**by(tmp_path / "other")).model_dump(exclude_unset=True))
        second = await gateway.outlook.described()
    finally:
        await gateway.stop()
    assert (first["router"]["kind"], second["router"]["kind"], second["router"]["name"]) == ("stack", "best-single", "other")


# drift


async def asked(client: httpx.AsyncClient, texts: list[str]) -> None:
    for text in texts:
        await client.post("/v1/chat/completions", json=chat(text))


async def test_traffic_like_the_training_questions_is_told_from_traffic_that_is_not(stack: Path, tmp_path: Path) -> None:
    told = {}
    other = [f"Was the queen of country {n} older than her husband, and who ruled after them?" for n in range(50)]
    for name, texts in (("same", [f"What is {n} plus {n + 5}?" for n in range(25)] + TEXTS[30:]), ("other", other)):
        keeping = {"store": f"sqlite:///{tmp_path / name}.db", "keep_text": True}
        async with served(**by(stack), serving=keeping) as client:
            await asked(client, texts)
            told[name] = (await client.get("/v1/routers")).json()["drift"]
    assert all(drift["note"] is None and drift["questions"] >= LEAST for drift in told.values())
    assert told["other"]["told_apart"] > told["other"]["chance"]
    assert told["other"]["told_apart"] > told["same"]["told_apart"]
    assert told["same"]["shares"]["before"] == {"a": 0.5, "b": 0.5}
    assert "queen" not in str(told), "figures only"


async def test_feedback_counts_for_the_first_choice_and_tells_no_words(stack: Path, tmp_path: Path) -> None:
    async with served(**by(stack), serving={"store": f"sqlite:///{tmp_path / 'store.db'}", "keep_text": True}) as client:
        assert (await client.get("/v1/routers")).json()["feedback"] == {}
        for text, score in ((TEXTS[0], 1.0), (TEXTS[1], 0.5), (TEXTS[30], 0.0), (TEXTS[31], None)):
            id = (await client.post("/v1/chat/completions", json=chat(text))).json()["id"]
            if score is not None:
                assert (await client.post("/v1/feedback", json={"id": id, "score": score, "comment": "a secret"})).status_code == 200
        told = (await client.get("/v1/routers")).json()["feedback"]
    assert told == {"a": {"answers": 2, "mean": 0.75}, "b": {"answers": 1, "mean": 0.0}}


async def test_without_texts_choices_and_confidence_are_compared_alone(stack: Path, tmp_path: Path) -> None:
    async with served(**by(stack), serving={"store": f"sqlite:///{tmp_path / 'store.db'}"}) as client:
        await asked(client, TEXTS[:30] + TEXTS[:15])
        drift = (await client.get("/v1/routers")).json()["drift"]
    assert (drift["questions"], drift["told_apart"]) == (45, None)
    assert "keeps no texts" in drift["note"]
    assert drift["shares"] == {"before": {"a": 0.5, "b": 0.5}, "now": {"a": 1.0, "b": 0.0}}
    assert drift["moved"] == 0.5
    assert 0 < drift["confidence"]["now"] <= 1


async def test_few_questions_and_questions_to_one_expert_tell_no_drift(stack: Path, tmp_path: Path) -> None:
    async with served(**by(stack), serving={"store": f"sqlite:///{tmp_path / 'store.db'}"}) as client:
        await asked(client, [FRANCE] * 5)
        for _ in range(3):
            await client.post("/v1/chat/completions", json=chat(FRANCE) | {"model": "a"})
        drift = (await client.get("/v1/routers")).json()["drift"]
    assert drift["questions"] <= 8
    assert "too few to tell a drift" in drift["note"]


def test_the_mixture_that_ships_tells_its_drift_from_figures_alone(tmp_path: Path) -> None:
    from router import load_router

    router = load_router(ASSETS / "router")
    assert 0 < len(training_texts(router)) <= 400
    with Store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        store.add_key("k", name="k", salt=b"", digest=b"")
        for at in range(LEAST):
            scores = dict.fromkeys(router.experts_, 0.1) | {"words": 0.8}
            store.add_trace("k", f"r{at}", {"route": {"scores": scores}}, text=False)
        store.add_trace("k", "alone", {"route": {"scores": {"words": 0.8}}}, text=False)
        drift = drift_json(router, store)
    assert (drift["questions"], drift["shares"]["now"]["words"], drift["confidence"]["now"]) == (LEAST, 1.0, 0.8)
    assert drift["shares"]["before"]["words"] < 1.0
