import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from data.scores import read_scores
from router import KINDS, LivingRouter, load_router

Run = Callable[..., tuple[int, str, str]]
Table = Callable[..., Path]

THINGS = "apple banana cherry date elder fig grape honey iris jasmine kiwi lemon mango nut olive peach quince rose sage thyme".split()
SUMS = [f"What is {a} plus {b}?" for a in range(2, 42) for b in (3, 17)]
WORDS = [f"Spell the word {thing} in {colour}." for thing in THINGS for colour in ("red", "green", "blue", "black")]
TEXTS = [text for pair in zip(SUMS, WORDS, strict=True) for text in pair]
RIGHT: dict[str, tuple[float, float]] = {"math": (0.9, 0.2), "language": (0.2, 0.9), "general": (0.6, 0.6)}
PRICE = {"math": 0.002, "language": 0.001, "general": 0.004}
FEW = ("--encoder", "style")
"""Small features, so that a kind is fitted at once."""


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Writes a score table of sums and words in turn; half of it is for training."""

    def write(
        name: str = "scores.jsonl",
        right: Mapping[str, tuple[float, float]] = RIGHT,
        count: int = 80,
        begin: int = 0,
        without: tuple[str, ...] = (),
        keep: Callable[[pd.DataFrame], Any] | None = None,
    ) -> Path:
        rng = np.random.default_rng(begin)
        rows = [
            {
                "query_id": f"q{at}",
                "query": text,
                "expert": expert,
                "score": float(rng.random() < chances[at % 2]),
                "category": ("sums", "words")[at % 2],
                "split": ("train", "train", "test", "test")[at % 4],
                "prediction": str(rng.integers(3)),
                "cost": PRICE.get(expert, 0.01),
            }
            for at, text in enumerate(TEXTS[begin : begin + count], start=begin)
            for expert, chances in right.items()
        ]
        made = pd.DataFrame(rows).drop(columns=list(without))
        made = made if keep is None else made[keep(made)]
        path = tmp_path / name
        made.to_json(path, orient="records", lines=True)
        return path

    return write


@pytest.fixture
def fitted(run: Run, table: Table, tmp_path: Path) -> Path:
    """A linear router on the table's train part."""
    assert run("router", "fit", "--scores", table(), "--kind", "linear", "-o", tmp_path / "router")[0] == 0
    return tmp_path / "router"


def said(out: str) -> str:
    """What was printed, without the breaks of lines."""
    return " ".join(out.split())


# fit


def test_the_default_kind_is_fitted_and_tells_on_what(run: Run, table: Table, tmp_path: Path) -> None:
    code, out, _ = run("router", "fit", "--scores", table(), "-o", tmp_path / "router", *FEW)
    assert code == 0
    assert said(out) == f"stack router of 3 experts, fitted on 40 questions, in {tmp_path / 'router'}".replace("\n", " ")
    router = load_router(tmp_path / "router")
    assert router.kind == "stack"
    assert router.experts_ == list(RIGHT)


def test_splits_and_experts_are_picked(run: Run, table: Table, tmp_path: Path) -> None:
    arguments = ("router", "fit", "--scores", table(), "--kind", "best-single", "-o", tmp_path / "router")
    assert "fitted on 80 questions" in said(run(*arguments, "--split", "train", "--split", "test")[1])
    assert run(*arguments, "--exclude", "math", "--exclude", "general")[0] == 0
    assert load_router(tmp_path / "router").experts_ == ["language"]


def test_what_also_stands_in_test_is_left_out_and_told(run: Run, table: Table, tmp_path: Path) -> None:
    path = table()
    rows = read_scores(path)
    rows.loc[rows["query_id"] == "q0", "query"] = TEXTS[2].upper()
    rows.to_json(path, orient="records", lines=True)
    code, out, err = run("router", "fit", "--scores", path, "--kind", "best-single", "-o", tmp_path / "router")
    assert code == 0
    assert "left out 1 questions of train whose text also stands in test" in said(err)
    assert "fitted on 39 questions" in said(out)


def test_settings_reach_the_router(run: Run, table: Table, tmp_path: Path) -> None:
    arguments = ("router", "fit", "--scores", table(), "-o", tmp_path / "router", *FEW)
    assert run(*arguments, "--kind", "knn", "--set", "k=7", "--set", "temperature=0.5", "--no-texts")[0] == 0
    router: Any = load_router(tmp_path / "router")
    assert (router.k, router.temperature, router.texts, router.encoder) == (7, 0.5, False, "style")
    assert run(*arguments, "--kind", "linear", "--set", "penalty=null")[0] == 0
    assert run(*arguments, "--kind", "cluster", "--seed", "5", "--set", "by=rank")[0] == 0
    router = load_router(tmp_path / "router")
    assert (router.seed, router.by) == (5, "rank")
    assert run(*arguments, "--kind", "category", "--set", "sizes={math: 7, language: 7, general: 70}", "--set", "budget=14")[0] == 0
    assert run(*arguments, "--kind", "stack", "--set", "members=[linear, cluster]")[0] == 0


@pytest.mark.parametrize("kind", ["knn", "stack"])
def test_an_artefact_without_texts_holds_no_question(kind: str, run: Run, table: Table, tmp_path: Path) -> None:
    for flag, held in (("--texts", True), ("--no-texts", False)):
        assert run("router", "fit", "--scores", table(count=24), "--kind", kind, "-o", tmp_path / "router", flag, *FEW)[0] == 0
        files = b"".join(path.read_bytes() for path in (tmp_path / "router").iterdir())
        assert (b"Spell the word" in files) is held


def test_descriptions_are_read_for_the_kind_that_wants_them(run: Run, table: Table, tmp_path: Path) -> None:
    (tmp_path / "experts.yaml").write_text("math: adding numbers\nlanguage: spelling words\n", encoding="utf-8")
    arguments = ("--kind", "description", "--descriptions", tmp_path / "experts.yaml")
    assert run("router", "fit", "--scores", table(), *arguments, "-o", tmp_path / "router")[0] == 0
    router: Any = load_router(tmp_path / "router")
    assert router.descriptions == {"math": "adding numbers", "language": "spelling words"}


# eval and compare

KEYS = [
    "accuracy",
    "low",
    "high",
    "n",
    "by_category",
    "best_single",
    "random",
    "category_oracle",
    "oracle",
    "ece",
    "hit_rate",
    "latency_ms",
]
SHARES, COSTS = ["apgr", "cpt50", "cpt80"], ["cost", "aiq"]


@pytest.mark.parametrize(
    ("experts", "without", "more"),
    [
        (("math", "language", "general"), ("cost",), []),
        (("math", "language", "general"), (), COSTS),
        (("math", "language"), ("cost",), SHARES),
        (("math", "language"), (), [*SHARES, *COSTS]),
    ],
)
def test_eval_prints_these_keys(
    experts: tuple[str, ...], without: tuple[str, ...], more: list[str], run: Run, table: Table, tmp_path: Path
) -> None:
    path = table(right={name: RIGHT[name] for name in experts}, without=without)
    assert run("router", "fit", "--scores", path, "--kind", "linear", "-o", tmp_path / "router")[0] == 0
    code, out, _ = run("router", "eval", tmp_path / "router", "--scores", path, "--json")
    report = json.loads(out)
    assert (code, list(report)) == (0, [*KEYS, *more, "versus"])
    assert report["n"] == 40
    assert report["by_category"].keys() == {"sums", "words"}
    assert report["random"] < report["best_single"] < report["accuracy"] <= report["oracle"]
    assert report["low"] < report["accuracy"] < report["high"]
    assert report["versus"]["random"]["tie"] is False
    if "apgr" in more:
        assert report["apgr"] > 0.7
        assert 0 < report["cpt50"] <= report["cpt80"] <= 1
    if "aiq" in more:
        assert 0.001 <= report["cost"] <= 0.004
        assert 0 < report["aiq"] <= 1


def test_eval_prints_a_table_and_calls_ties_ties(run: Run, table: Table, fitted: Path) -> None:
    code, out, _ = run("router", "eval", fitted, "--scores", table())
    assert code == 0
    assert "40 questions of scores.jsonl" in out
    for name in ("random", "best-single", "category-oracle", "oracle", "linear"):
        assert re.search(rf"│ {name} +│ +\d+\.\d\d │ +\d+\.\d to +\d+\.\d │", out), f"{name} and its numbers stand there whole"
    assert re.search(r"linear - random: \+\d+\.\d\d points \[\+", out)
    assert "linear - category-oracle: +0.00 points [+0.00, +0.00], a tie" in out


def test_eval_picks_splits_or_takes_a_table_without_any_whole(run: Run, table: Table, fitted: Path) -> None:
    for arguments, count in (
        ((table(), "--split", "train"), 40),
        ((table(), "--split", "train", "--split", "test"), 80),
        ((table("plain.jsonl", without=("split",)),), 80),
        ((table("new.jsonl", begin=80, count=20, without=("split", "category")),), 20),
    ):
        code, out, _ = run("router", "eval", fitted, "--scores", *arguments, "--json")
        assert (code, json.loads(out)["n"]) == (0, count)


def test_eval_measures_the_experts_that_router_and_table_share(run: Run, table: Table, fitted: Path) -> None:
    other = table("other.jsonl", {"language": (0.2, 0.9), "stranger": (1.0, 1.0), "math": (0.9, 0.2)})
    report = json.loads(run("router", "eval", fitted, "--scores", other, "--json")[1])
    assert "apgr" in report
    assert report["oracle"] < 1


def test_eval_takes_a_living_router(run: Run, table: Table, fitted: Path, tmp_path: Path) -> None:
    assert run("router", "remove", fitted, "--expert", "general", "-o", tmp_path / "fewer")[0] == 0
    code, out, _ = run("router", "eval", tmp_path / "fewer", "--scores", table())
    assert code == 0
    assert "living - random: +" in out


def test_compare_measures_kinds_beside_the_baselines_and_draws_them(run: Run, table: Table, tmp_path: Path) -> None:
    arguments = ("--kind", "knn", "--kind", "linear", "--kind", "knn", "--figure", tmp_path / "all" / "routers.svg", *FEW)
    code, out, err = run("router", "compare", "--scores", table(), *arguments)
    assert code == 0, err
    assert [line.split()[1] for line in out.splitlines() if line.startswith("│")] == [
        "best-single", "random", "category-oracle", "oracle", "knn", "linear",
    ]  # fmt: skip
    assert out.count(" best ") >= 1
    assert " tie " in out
    assert f"Figure: {tmp_path}/all/routers.png, {tmp_path}/all/routers.svg" in said(out)
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"routers.png", "routers.svg"}
    code, out, _ = run("router", "compare", "--scores", table(), *arguments, "--json")
    report = json.loads(out)
    assert list(report) == ["knn", "linear"]
    assert list(report["linear"]) == [*KEYS, *COSTS, "versus"]


def test_compare_measures_a_baseline_as_a_kind(run: Run, table: Table, tmp_path: Path) -> None:
    arguments = ("--kind", "best-single", "--kind", "random", "--figure", tmp_path / "f.png")
    code, out, _ = run("router", "compare", "--scores", table(), *arguments)
    assert (code, out.count("│ best-single "), out.count("│ random ")) == (0, 2, 2)


@pytest.mark.slow
def test_compare_fits_every_kind_and_leaves_out_what_the_table_cannot_teach(run: Run, table: Table, tmp_path: Path) -> None:
    path = table(without=("category", "split"))
    code, out, err = run("router", "compare", "--scores", path, "--json", "--figure", tmp_path / "f.png", *FEW)
    assert code == 0
    learning = {name for name, kind in KINDS.items() if kind.learns}
    assert json.loads(out).keys() == learning - {"category"}
    assert "category: left out, " in err
    counts = {report["n"] for report in json.loads(out).values()}
    assert len(counts) == 1
    assert 10 < counts.pop() < 40, "a table without splits is divided 70 to 30"


def test_what_compare_found_is_printed_though_the_figure_cannot_be_written(run: Run, table: Table, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arguments = ("--kind", "linear", "--figure", tmp_path / "file" / "f.png", *FEW)
    code, out, err = run("router", "compare", "--scores", table(), *arguments)
    assert code == 2
    assert "│ linear " in out
    assert f"counterpoint: cannot write the figure to {tmp_path / 'file'}: " in err
    assert json.loads(run("router", "compare", "--scores", table(), *arguments, "--json")[1]).keys() == {"linear"}


# add, remove, feedback, drift


def test_an_expert_is_added_from_probes_and_taken_out_again(run: Run, table: Table, fitted: Path, tmp_path: Path) -> None:
    probes = table("probes.jsonl", {"new": (1.0, 0.1), "math": (0.0, 0.0)}, count=40, begin=80)
    code, out, _ = run("router", "add", fitted, "--expert", "new", "--scores", probes, "-o", tmp_path / "more")
    assert (code, said(out)) == (0, f"router of 4 experts, new among them, in {tmp_path / 'more'}")
    more = load_router(tmp_path / "more")
    assert more.experts_ == [*RIGHT, "new"]
    assert more.scores(TEXTS)[:, :3].tobytes() == load_router(fitted).scores(TEXTS).tobytes()
    new = more.scores([SUMS[-1], WORDS[-1]])[:, 3]
    assert new[0] > 0.7 > 0.4 > new[1]
    code, out, _ = run("router", "remove", tmp_path / "more", "--expert", "math", "-o", tmp_path / "fewer")
    assert (code, said(out)) == (0, f"router of 3 experts, math no longer among them, in {tmp_path / 'fewer'}")
    assert load_router(tmp_path / "fewer").scores(TEXTS).tobytes() == more.scores(TEXTS)[:, 1:].tobytes()


def test_an_expert_is_added_from_its_description(run: Run, fitted: Path, tmp_path: Path) -> None:
    (tmp_path / "others.yaml").write_text("math: adding numbers\nlanguage: spelling words\n", encoding="utf-8")
    arguments = ("router", "add", fitted, "--expert", "poet", "--description", "writing poems about love")
    assert run(*arguments, "-o", tmp_path / "plain")[0] == 0
    assert run(*arguments, "-o", tmp_path / "told", "--descriptions", tmp_path / "others.yaml")[0] == 0
    poem, plain, told = "Write a poem about love.", load_router(tmp_path / "plain"), load_router(tmp_path / "told")
    assert plain.scores([poem])[0, 3] > plain.scores([SUMS[0]])[0, 3]
    assert plain.scores([poem])[0, 3] != told.scores([poem])[0, 3]


def test_ratings_move_the_rated_expert(run: Run, table: Table, fitted: Path, tmp_path: Path) -> None:
    ratings = table("ratings.jsonl", {"math": (0.0, 0.0)}, count=30)
    code, out, _ = run("router", "feedback", fitted, "--ratings", ratings, "-o", tmp_path / "rated")
    assert (code, said(out)) == (0, f"30 ratings taken, the router is in {tmp_path / 'rated'}")
    before, after = load_router(fitted), load_router(tmp_path / "rated")
    assert (after.scores(SUMS)[:, 0] < before.scores(SUMS)[:, 0]).all()
    assert after.scores(SUMS)[:, 1:].tobytes() == before.scores(SUMS)[:, 1:].tobytes()
    api = LivingRouter(before)
    for text in TEXTS[:30]:
        api.rate_answer(text, "math", 0.0)
    assert api.scores(SUMS).tobytes() == after.scores(SUMS).tobytes()


def test_the_rate_of_ratings_stays_until_another_is_given(run: Run, table: Table, fitted: Path, tmp_path: Path) -> None:
    ratings = table("ratings.jsonl", {"math": (0.0, 0.0)}, count=2)
    for rate, wanted in (((), 0.3), (("--rate", "2"), 2.0), ((), 2.0)):
        source = tmp_path / "rated" if (tmp_path / "rated").exists() else fitted
        assert run("router", "feedback", source, "--ratings", ratings, "-o", tmp_path / "rated", *rate)[0] == 0
        router: Any = load_router(tmp_path / "rated")
        assert router.rate == wanted


def test_a_frozen_router_takes_no_ratings(run: Run, table: Table, fitted: Path, tmp_path: Path) -> None:
    LivingRouter(load_router(fitted), frozen=True).save(tmp_path / "frozen")
    code, _, err = run("router", "feedback", tmp_path / "frozen", "--ratings", table(), "-o", tmp_path / "rated")
    assert (code, said(err)) == (2, f"counterpoint: the router in {tmp_path / 'frozen'} is frozen: it takes no ratings")


def test_drift_is_told_in_lines_and_as_json(run: Run, table: Table, fitted: Path) -> None:
    half = np.random.default_rng(0).permutation(160) < 80
    before, same = (
        table(f"half-{part}.jsonl", count=160, keep=lambda t, part=part: half[t["query_id"].str[1:].astype(int)] == part) for part in (0, 1)
    )
    sums, words = (
        table(f"{kind}.jsonl", begin=60, count=100, keep=lambda t, kind=kind: t["category"] == kind) for kind in ("sums", "words")
    )
    code, out, _ = run("router", "drift", fitted, "--before", before, "--now", same)
    assert code == 0
    assert "no other questions than chance would bring" in said(out)
    assert re.search(r"accuracy +\d", out)
    code, out, _ = run("router", "drift", fitted, "--before", sums, "--now", words, "--json")
    found = json.loads(out)
    keys = ["told_apart", "chance", "shares_before", "shares_now", "confidence", "accuracy", "calibration", "moved"]
    assert (code, list(found)) == (0, keys)
    assert found["told_apart"] > 0.9 > found["chance"]
    assert found["moved"] > 0.5
    assert found["accuracy"][0].keys() == {"mean", "low", "high"}


def test_drift_looks_at_a_split(run: Run, table: Table, fitted: Path) -> None:
    code, _, err = run("router", "drift", fitted, "--before", table(), "--now", table(), "--split", "test")
    assert code == 0, err
    code, _, err = run("router", "drift", fitted, "--before", table(), "--now", table("less.jsonl", count=78), "--split", "test")
    assert (code, said(err)) == (2, "counterpoint: 38 questions now are too few to tell a drift: wanted 40 or more")


# annotate, convert, distil


def test_annotated_keywords_teach_the_skill_router(run: Run, table: Table, mixture: Callable[..., Path], tmp_path: Path) -> None:
    script = [{"match": "plus", "say": "Keywords: adding, numbers"}, {"match": "Spell", "say": "Keywords: spelling"}]
    config = mixture(experts=[{"name": "namer", "model": "-", "engine": "scripted", "options": {"script": script}}])
    arguments = ("--expert", "namer", "-c", config, "--rounds", "2", "-o", tmp_path / "annotated.jsonl")
    code, out, _ = run("router", "annotate", "--scores", table(), *arguments)
    assert (code, said(out)) == (0, f"80 of 80 questions have keywords, in {tmp_path / 'annotated.jsonl'}")
    rows = read_scores(tmp_path / "annotated.jsonl")
    assert set(rows["keywords"]) == {"adding;numbers", "spelling"}
    assert rows.drop(columns="keywords").equals(read_scores(table()))
    assert run("router", "fit", "--scores", tmp_path / "annotated.jsonl", "--kind", "skill", "-o", tmp_path / "router")[0] == 0


def test_a_foreign_table_is_converted_fitted_and_measured(run: Run, tmp_path: Path) -> None:
    rows = [
        {
            "sample_id": f"s{at}",
            "prompt": str([text]),
            "eval_name": ("sums", "words")[at % 2],
            "big": float(at % 3 > 0),
            "small": float(at % 2),
            "big|total_cost": 0.01,
            "small|total_cost": 0.001,
        }
        for at, text in enumerate(TEXTS[:40])
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "wide.csv", index=False)
    code, out, _ = run("convert", tmp_path / "wide.csv", "--from", "routerbench", "-o", tmp_path / "scores.parquet")
    assert (code, said(out)) == (0, f"80 rows of 2 experts on 40 questions in {tmp_path / 'scores.parquet'}")
    assert run("router", "fit", "--scores", tmp_path / "scores.parquet", "-o", tmp_path / "router", "--kind", "linear", *FEW)[0] == 0
    report = json.loads(run("router", "eval", tmp_path / "router", "--scores", tmp_path / "scores.parquet", "--json")[1])
    assert list(report) == [*KEYS, *SHARES, *COSTS, "versus"]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model of a few word pieces with random weights."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    pieces = [*special.values(), *"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    tokens = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(pieces), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, max_position_embeddings=16
    )
    BertModel(shape).save_pretrained(folder / "bert")  # type: ignore[no-untyped-call]
    PreTrainedTokenizerFast(tokenizer_object=tokens, **special).save_pretrained(folder / "bert")  # type: ignore[no-untyped-call]
    parts = [Transformer(str(folder / "bert"), max_seq_length=16), Pooling(8)]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    return folder / "model"


def test_a_distilled_encoder_serves_a_router(run: Run, table: Table, tiny_model: Path, tmp_path: Path) -> None:
    code, out, _ = run("encoder", "distil", tiny_model, "-o", tmp_path / "static", "--dim", "4")
    assert code == 0
    assert f"static encoder of 4 dimensions in {tmp_path / 'static'}" in said(out)
    assert {path.name for path in (tmp_path / "static").iterdir()} == {"static.safetensors", "tokenizer.json"}
    arguments = ("--kind", "linear", "--encoder", f"{tmp_path / 'static'}+style", "-o", tmp_path / "router")
    assert run("router", "fit", "--scores", table(), *arguments)[0] == 0
    assert load_router(tmp_path / "router").scores(["two plus two"]).shape == (1, 3)


# replay


def test_replay_prints_these_keys(run: Run, table: Table, fitted: Path) -> None:
    keys = ["accuracy", "low", "high", "mean_calls", "cost", "best_single", "random", "category_oracle", "oracle", "systems", "comparisons"]
    for k, cost in ((1, None), (3, sum(PRICE.values()))):
        code, out, _ = run("replay", "--scores", table(), "--router", fitted, "--k", k, "--json")
        report = json.loads(out)
        assert (code, list(report), report["mean_calls"]) == (0, keys, k)
        assert report["random"] < report["best_single"] < report["oracle"]
        assert report["low"] <= report["accuracy"] <= report["high"]
        assert 0.001 <= report["cost"] <= 0.002 if cost is None else report["cost"] == pytest.approx(cost)
        by_name = {row["name"]: row["accuracy"] for row in report["systems"]}
        assert by_name["mixture-k3" if k == 3 else "router-top-1"] == report["accuracy"]
        assert by_name["category-oracle"] == report["category_oracle"]
        assert all(line.startswith("mixture-k3 - " if k == 3 else "router-top-1 - ") for line in report["comparisons"])


def test_replay_without_costs_or_categories_says_null(run: Run, table: Table, fitted: Path) -> None:
    path = table("plain.jsonl", without=("cost", "category", "split"))
    report = json.loads(run("replay", "--scores", path, "--router", fitted, "--k", "2", "--json")[1])
    assert (report["cost"], report["category_oracle"], report["mean_calls"]) == (None, None, 2)


def test_replay_agrees_with_eval(run: Run, table: Table, fitted: Path) -> None:
    replayed = json.loads(run("replay", "--scores", table(), "--router", fitted, "--k", "1", "--json")[1])
    measured = json.loads(run("router", "eval", fitted, "--scores", table(), "--json")[1])
    for key in ("accuracy", "low", "high", "best_single", "random", "category_oracle", "oracle"):
        assert replayed[key] == measured[key]
    assert replayed["cost"] == pytest.approx(measured["cost"])


def test_replay_fits_the_default_kind_on_the_train_part_where_it_is_given_none(run: Run, table: Table) -> None:
    code, out, _ = run("replay", "--scores", table(count=40), "--k", "1", "--exclude", "general", "--json")
    assert (code, json.loads(out)["mean_calls"]) == (0, 1)
    assert "expert:general" not in {row["name"] for row in json.loads(out)["systems"]}


# mistakes

BAD: dict[str, tuple[str, str]] = {  # the command, with names of what stands in the folder; and words of the answer
    "an unknown kind": (
        "router fit --scores TABLE --kind astrology -o OUT",
        "no router is called 'astrology'; there are random, best-single",
    ),
    "an unknown kind to compare": ("router compare --scores TABLE --kind astrology", "no router is called 'astrology'"),
    "an unknown setting": (
        "router fit --scores TABLE --kind knn --set q=3 -o OUT",
        "the knn router has no setting 'q'; it has k, temperature",
    ),
    "a setting of a kind without any": ("router fit --scores TABLE --kind oracle --set q=3 -o OUT", "no setting 'q'; it has none"),
    "a setting without a value": ("router fit --scores TABLE --kind knn --set k -o OUT", "--set wants name=value, not 'k'"),
    "a value that is no YAML": ("router fit --scores TABLE --kind knn --set k=[1 -o OUT", "--set k: '[1' cannot be read as a value"),
    "a value of another type": ("router fit --scores TABLE --kind knn --set k=many -o OUT", "--set k: Input should be a valid integer"),
    "a fraction of a neighbour": ("router fit --scores TABLE --kind knn --set k=2.5 -o OUT", "--set k: Input should be a valid integer"),
    "a number for an encoder": (
        "router fit --scores TABLE --kind knn --set encoder=3 -o OUT",
        "--set encoder: Input should be a valid string",
    ),
    "a word for a list": ("router fit --scores TABLE --kind stack --set members=knn -o OUT", "--set members: "),
    "a value out of range": ("router fit --scores TABLE --kind knn --set k=0 -o OUT", "k and most of at least 1"),
    "an unknown encoder": ("router fit --scores TABLE --kind knn --encoder nope -o OUT", "no encoder is called 'nope'"),
    "a seed of a kind that draws nothing": (
        "router fit --scores TABLE --kind linear --seed 3 -o OUT",
        "the linear router has no setting 'seed'",
    ),
    "descriptions of a kind that reads none": (
        "router fit --scores TABLE --kind knn --descriptions GOOD -o OUT",
        "no setting 'descriptions'",
    ),
    "an unknown split": ("router fit --scores TABLE --kind knn --split dev -o OUT", "no rows with split dev; there are train, test"),
    "an unknown expert to leave out": (
        "router fit --scores TABLE --kind knn --exclude nobody -o OUT",
        "--exclude: no expert is called 'nobody'; the score table has math, language, general",
    ),
    "nobody left": ("router fit --scores TWO --kind knn --exclude math --exclude language -o OUT", "--exclude leaves no expert"),
    "a missing table": ("router fit --scores nowhere.jsonl -o OUT", "no score table at nowhere.jsonl"),
    "a table of no known ending": ("router fit --scores GOOD -o OUT", "wanted a file ending in .parquet, .jsonl, .csv"),
    "an output that is a file": ("router fit --scores TABLE --kind best-single -o TABLE", "cannot write the router to "),
    "a missing router": ("router eval nowhere --scores TABLE", "no router in nowhere: router.json cannot be read"),
    "strangers": ("router eval ROUTER --scores STRANGERS", "the router knows math, language, general, the score table x: none in common"),
    "a split of a table without any": ("router eval ROUTER --scores PLAIN --split test", "has no column 'split', so test cannot be picked"),
    "a table without a test part": ("router eval ROUTER --scores TRAIN", "no rows with split test; there are train"),
    "a table without a train part to compare": (
        "router compare --scores TEST --kind linear --figure OUT",
        "there are no rows to fit on: the score table has neither a split train nor tune",
    ),
    "a figure without a name": (
        "router compare --scores TABLE --kind best-single --figure /",
        "the figure needs the name of a file, not /",
    ),
    "an expert added twice": (
        "router add ROUTER --expert math --scores TABLE -o OUT",
        "there is an expert called 'math' already, or there was",
    ),
    "an expert described twice": ("router add ROUTER --expert math --description sums -o OUT", "there is an expert called 'math' already"),
    "probes of somebody else": ("router add ROUTER --expert new --scores TABLE -o OUT", "no expert 'new'; it has math, language, general"),
    "neither probes nor a description": ("router add ROUTER --expert new -o OUT", "either from --scores or from --description"),
    "both": ("router add ROUTER --expert new --scores TABLE --description sums -o OUT", "either from --scores or from --description"),
    "an empty description": ("router add ROUTER --expert new --description EMPTY -o OUT", "the description of 'new' is empty"),
    "descriptions that are no YAML": (
        "router add ROUTER --expert new --description sums --descriptions BROKEN -o OUT",
        "cannot be read: while parsing a flow",
    ),
    "descriptions that are a list": (
        "router add ROUTER --expert new --description sums --descriptions LIST -o OUT",
        "holds no descriptions: wanted a mapping of experts and texts",
    ),
    "descriptions that are numbers": (
        "router fit --scores TABLE --kind description --descriptions NUMBERS -o OUT",
        "holds no descriptions",
    ),
    "descriptions that are nothing": ("router fit --scores TABLE --kind description --descriptions VOID -o OUT", "holds no descriptions"),
    "descriptions that are not there": (
        "router fit --scores TABLE --kind description --descriptions nowhere.yaml -o OUT",
        "the descriptions in nowhere.yaml cannot be read",
    ),
    "a description of nobody": (
        "router fit --scores TWO --kind description --descriptions GOOD -o OUT",
        "there is a description of 'general', which the score table does not have",
    ),
    "an unknown expert to remove": ("router remove ROUTER --expert nobody -o OUT", "no expert is called 'nobody'; the router has math"),
    "ratings of an unknown expert": ("router feedback ROUTER --ratings STRANGERS -o OUT", "no expert is called 'x'; the router has math"),
    "a rate of nothing": ("router feedback ROUTER --ratings TABLE --rate 0 -o OUT", "above 0 and up to 10, not 0.0"),
    "ratings that are no table": ("router feedback ROUTER --ratings BROKEN -o OUT", "wanted a file ending in"),
    "too few questions to tell a drift": ("router drift ROUTER --before FEW --now TABLE", "10 questions before are too few"),
    "an unknown expert to ask": ("router annotate --scores TABLE --expert nobody -c MIXTURE -o OUT.csv", "no expert is called 'nobody'"),
    "an annotated table of no known ending": (
        "router annotate --scores TABLE --expert a -c MIXTURE -o OUT",
        "wanted a file ending in .parquet, .jsonl, .csv",
    ),
    "an expert that always fails": (
        "router annotate --scores BREAKS --expert a -c MIXTURE -o OUT.csv",
        "'a' answered none of 5 calls: told to fail",
    ),
    "an unknown format": ("convert TABLE --from chatarena -o OUT.csv", "no converter is called 'chatarena'; there are embedllm"),
    "a missing foreign file": ("convert nowhere.csv --from routerbench -o OUT.csv", "nothing at nowhere.csv"),
    "a foreign file that is none": ("convert TABLE --from routerbench -o OUT.csv", "sample_id"),
    "an odd dimension": ("encoder distil -o OUT --dim 3", "dim must be an even number from 2, not 3"),
    "a model that is none": ("encoder distil ROUTER -o OUT", "cannot be loaded"),
    "a replay without a train part": ("replay --scores TEST", "no rows with split train; there are test"),
    "a replay without splits": ("replay --scores PLAIN", "has no splits to fit a router on: give one by --router"),
    "a replay of strangers": ("replay --scores STRANGERS --router ROUTER", "none in common"),
    "a replay without an expert that is not there": ("replay --scores TABLE --exclude nobody", "--exclude: no expert is called 'nobody'"),
    "a replay without answers": ("replay --scores MUTE --router ROUTER", "the score table holds no answers"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_a_mistake_is_one_line_and_exit_code_2(
    case: tuple[str, str], run: Run, table: Table, fitted: Path, mixture: Callable[..., Path], tmp_path: Path
) -> None:
    good = {"math": "adding", "language": "spelling", "general": "all"}
    yamls = {"GOOD": yaml.safe_dump(good), "BROKEN": "a: [", "LIST": "- sums", "NUMBERS": "math: 3", "VOID": ""}
    for name, text in yamls.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    breaks = pd.DataFrame([{"query_id": "1", "query": "please break", "expert": "a", "score": 1.0}])
    breaks.to_json(tmp_path / "breaks.jsonl", orient="records", lines=True)
    there = {name: tmp_path / f"{name}.yaml" for name in yamls} | {
        "TABLE": table(),
        "TWO": table("two.jsonl", {"math": (1, 0), "language": (0, 1)}),
        "PLAIN": table("plain.jsonl", without=("split",)),
        "MUTE": table("mute.jsonl", without=("prediction", "split")),
        "TRAIN": table("train.jsonl", keep=lambda rows: rows["split"] == "train"),
        "TEST": table("test.jsonl", keep=lambda rows: rows["split"] == "test"),
        "STRANGERS": table("strangers.jsonl", {"x": (1, 1)}, without=("split",)),
        "FEW": table("few.jsonl", count=10),
        "BREAKS": tmp_path / "breaks.jsonl",
        "ROUTER": fitted,
        "MIXTURE": mixture(),
        "EMPTY": " ",
        "OUT": tmp_path / "out",
        "OUT.csv": tmp_path / "out.csv",
    }
    code, out, err = run(*(there.get(word, word) for word in case[0].split()))
    lines = [line for line in err.splitlines() if line.startswith("counterpoint: ")]
    assert (code, len(lines)) == (2, 1), err
    assert case[1] in lines[0]
    assert err.splitlines()[-1] == lines[0], "nothing follows it"
    assert "Traceback" not in err
    assert "figure" in case[1] or out == "", "nothing is said as if it had worked"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    "command", [*(f"router {name}" for name in "fit eval compare add remove feedback drift annotate".split()), "convert", "encoder distil"]
)
def test_every_command_has_help_with_an_example(run: Run, command: str) -> None:
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert "Example:" in out


def test_kinds_lists_every_kind_with_a_sentence(run: Run) -> None:
    code, out, _ = run("router", "kinds")
    assert code == 0
    listed = [line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" ") and line.split()[0] in KINDS]
    assert [name for name, _ in listed] == list(KINDS)
    assert all(sentence[0].isupper() for _, sentence in listed)
