from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from router import FixedK, Mass
from router.budget import Limits
from router.cards import Card
from router.policy import Cascade, CountingPolicy, EntropyGate, Recruit, SelfSample
from router.preference import Preference
from serving.config import ConfigError, PolicyConfig, cards_of, expert_specs, load_config
from serving.demo import MIXTURE

ONE = {"name": "a", "model": "-", "engine": "scripted"}


def policy(**settings: Any) -> dict[str, Any]:
    """The part of a mixture that says how scores become a choice."""
    return {"router": {"path": "r", "policy": settings}}


def test_the_mixture_that_ships_is_valid() -> None:
    config = load_config(MIXTURE)
    assert {"general", "numbers", "words", "logic", "records"} <= {expert.name for expert in config.experts}
    assert len({spec.engine_key for spec in expert_specs(config)}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agregator": {"kind": "vote"}}, "agregator: no such key; did you mean aggregator?"),
        ({"experts": [{**ONE, "prise": {"input": 1}}]}, "experts.a.prise: no such key; did you mean price?"),
        ({"experts": [ONE, ONE]}, "two experts are called 'a'"),
        ({"experts": []}, "experts: List should have at least 1 item"),
        ({"experts": [{"name": "a"}]}, "experts.a: wanted either model, or base with adapter"),
        ({"experts": [{**ONE, "engine": "vlm"}]}, "experts.a: no engine is called 'vlm'"),
        ({"experts": [{**ONE, "name": "a b"}]}, "experts.a b.name"),
        (
            {"experts": [ONE, {"name": "b", "base": "z", "adapter": "x"}]},
            "expert 'b': base must be an expert with a model of its own, not 'z'",
        ),
        ({"experts": [ONE, {"name": "b", "base": "a", "adapter": "nowhere"}]}, "experts.b.adapter: no LoRA adapter at "),
        ({"aggregator": {"kind": "votes"}}, "aggregator: no aggregator is called 'votes'; there are best, vote, "),
        ({"aggregator": {"kind": "fuse", "expert": "z"}}, "aggregator: no expert is called 'z'"),
        ({"version": 2}, "mixture.yaml has version 2, and this Counterpoint reads up to 1: upgrade counterpoint-server"),
        ({"version": "1"}, "mixture.yaml has version 1, and wanted is a whole number up to 1"),
        ({"serving": {"port": 99999}}, "serving.port: "),
        ({"name": "a", "experts": [ONE]}, "the mixture and an expert are both called 'a'"),
        ({"experts": [{"name": "a", "model": "./nowhere", "engine": "transformers"}]}, "experts.a.model: nothing at "),
        ({"experts": [{**ONE, "role": "boss"}]}, "experts.a.role: Input should be 'routed', 'shared' or 'constant', not 'boss'"),
        ({"experts": [{**ONE, "role": "constant"}]}, "experts.a: a constant expert and its match come together"),
        ({"experts": [{**ONE, "match": ["hello"]}]}, "experts.a: a constant expert and its match come together"),
        ({"experts": [ONE, {**ONE, "name": "b", "role": "constant", "match": ["("]}]}, "experts.b: match: '(' is no regular expression: "),
        ({"experts": [{**ONE, "role": "constant", "match": ["x"]}]}, "every expert is constant: at least one must answer other questions"),
        ({"experts": [{**ONE, "released": "soon"}]}, "experts.a.released: "),
        ({"experts": [{**ONE, "size_b": -1}]}, "experts.a.size_b: "),
        ({"experts": [{**ONE, "latency_s": "fast"}]}, "experts.a.latency_s: "),
        ({"router": {"path": "r", "polcy": {}}}, "router.polcy: no such key; did you mean policy?"),
        (
            policy(kind="top-p"),
            "router.policy.kind: Input should be 'top-k', 'mass', 'entropy', 'cascade', 'self' or 'recruit', not 'top-p'",
        ),
        (policy(null_scor=0.3), "router.policy.null_scor: no such key; did you mean null_score?"),
        (policy(null_score=2), "router.policy.null_score: "),
        (policy(k=0), "router.policy.k: "),
        (policy(mass=0), "router.policy.mass: "),
        (policy(gate=1.5), "router.policy.gate: "),
        (policy(floor=-0.1), "router.policy.floor: "),
        (policy(first=0), "router.policy.first: "),
        (policy(agreement=1.2), "router.policy.agreement: "),
        (policy(k_min=4, k_max=2), "router.policy: k_min must not be above k_max, not 4 above 2"),
        (policy(sticky=-1), "router.policy.sticky: "),
        (policy(sticky=float("inf")), "router.policy.sticky: Input should be a finite number, not inf"),
        (policy(resident_within=float("nan")), "router.policy.resident_within: "),
        (policy(objective={"prise": 1}), "Input should be 'price', 'size', 'latency' or 'age', not 'prise'"),
        (policy(objective={"price": -1}), "router.policy.objective.price: "),
        (policy(objective={"price": float("inf")}), "router.policy.objective.price: Input should be a finite number, not inf"),
        (policy(limits={"usd": 0}), "router.policy.limits.usd: "),
        (policy(limits={"dollars": 1}), "router.policy.limits.dollars: no such key; there are usd, latency_s, size_b"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(mixture: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    path = mixture(**changes)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("a: [", "is no YAML"), ("- 1", "wanted a mapping"), ("", "wanted a mapping")])
def test_a_file_that_is_no_mixture_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mixture.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config at"):
        load_config(tmp_path / "none.yaml")


def test_an_adapter_takes_its_bases_engine_and_model(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    path = tmp_path / "m.yaml"
    path.write_text(
        "version: 1\nexperts:\n"
        "- {name: base, model: owner/model, engine: vllm, dtype: float32}\n"
        "- {name: special, base: base, adapter: adapter, max_tokens: 9}\n"
    )
    base, special = expert_specs(load_config(path))
    assert base.engine_key == special.engine_key
    assert special.adapter == str(tmp_path / "adapter")
    assert special.max_tokens == 9


POLICIES: list[tuple[dict[str, Any], CountingPolicy]] = [
    ({}, FixedK(3)),
    ({"kind": "top-k", "k": 2, "null_score": 0.3}, FixedK(2, 0.3)),
    ({"kind": "mass", "mass": 0.7, "k_min": 2, "k_max": 5}, Mass(0.7, 2, 5)),
    ({"kind": "entropy", "gate": 0.8, "k": 4}, EntropyGate(0.8, 4)),
    ({"kind": "cascade", "floor": 0.6, "first": 2, "agreement": 0.7, "k_max": 4}, Cascade(0.6, 2, 0.7, 4)),
    ({"kind": "self", "k": 5}, SelfSample(5)),
    ({"kind": "recruit", "k": 5}, Recruit(5)),
]


@pytest.mark.parametrize(("settings", "wanted"), POLICIES, ids=lambda part: part.get("kind", "default") if isinstance(part, dict) else "")
def test_each_kind_of_policy_is_built_with_its_settings(
    mixture: Callable[..., Path], settings: dict[str, Any], wanted: CountingPolicy
) -> None:
    config = load_config(mixture(**policy(**settings)))
    assert config.router is not None
    assert config.router.policy.build() == wanted


@pytest.mark.parametrize("kind", [settings.get("kind", "top-k") for settings, _ in POLICIES[1:]])
def test_every_kind_takes_preferences_and_limits(mixture: Callable[..., Path], kind: str) -> None:
    beside = {"objective": {"price": 0.2, "age": 0.0}, "sticky": 0.1, "resident_within": 0.05, "limits": {"usd": 0.5, "size_b": 70}}
    config = load_config(mixture(**policy(kind=kind, **beside)))
    assert config.router is not None
    made = config.router.policy.build()
    assert made.preference == Preference({"price": 0.2, "age": 0.0}, 0.1, 0.05)
    assert made.limits == Limits(usd=0.5, size_b=70)


def test_a_policy_as_documented_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "version: 1\nexperts: [{name: a, model: '-', engine: scripted}]\n"
        "router: {path: r, policy: {kind: top-k, k: 2, null_score: 0.3, objective: {price: 0.1}, limits: {usd: 0.01}}}\n"
    )
    config = load_config(path)
    assert config.router is not None
    assert config.router.policy == PolicyConfig(k=2, null_score=0.3, objective={"price": 0.1}, limits={"usd": 0.01})  # type: ignore[arg-type]
    assert all(name not in ("null", "yes", "no", "on", "off", "true", "false") for name in PolicyConfig.model_fields), "not words to YAML"


def test_cards_tell_policies_what_the_config_knows(mixture: Callable[..., Path]) -> None:
    experts = [
        {**ONE, "size_b": 7.5, "latency_s": 2, "released": "2025-01-31"},
        {**ONE, "name": "b", "role": "shared", "released": "2030-01-01"},
        {**ONE, "name": "c", "role": "constant", "match": ["hello|hi", "thanks"]},
    ]
    cards = cards_of(load_config(mixture(experts=experts)), date(2025, 3, 2))
    assert cards == {
        "a": Card(size_b=7.5, latency_s=2.0, age_days=30.0),
        "b": Card(role="shared"),  # not released yet is as new as today
        "c": Card(role="constant", match=("hello|hi", "thanks")),
    }
    assert cards["c"].matches("Thanks!")


@pytest.mark.parametrize(
    ("aggregator", "message"),
    [
        ({"kind": "fuse", "exprt": "a"}, "aggregator: the aggregator 'fuse' has no setting 'exprt'; did you mean expert?"),
        ({"kind": "learned"}, "aggregator: the aggregator 'learned' needs path"),
        ({"kind": "learned", "path": "nowhere"}, "aggregator: no combiner in "),
        ({"kind": "weighted", "open_choices": "many"}, "aggregator: open_choices: Input should be a valid integer"),
        ({"kind": "weighted", "open_choices": 1}, "aggregator: open_choices must be at least 2, not 1"),
        ({"kind": "judge", "judge": "z"}, "aggregator: no expert is called 'z'"),
        ({"kind": "vote", "defence": {"kind": "shield"}}, "aggregator.defence: no defence is called 'shield'; there are dropout, "),
        ({"kind": "vote", "defence": {"kind": "filter", "size": 2}}, "aggregator.defence: the defence 'filter' has no setting 'size'"),
        ({"kind": "self", "defence": {"kind": "filter"}}, "aggregator: the defence 'filter' needs answers, and the aggregator 'self' asks"),
    ],
)
def test_a_mistake_in_an_aggregators_settings_is_told_with_the_config(
    mixture: Callable[..., Path], aggregator: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(mixture(aggregator=aggregator))
    assert message in str(caught.value)


def test_paths_of_an_aggregator_start_from_the_configs_folder(mixture: Callable[..., Path]) -> None:
    path = mixture(aggregator={"kind": "deliberate", "memory": "solved", "defence": {"kind": "groups"}})
    config = load_config(path)
    assert config.aggregator.settings() == {"memory": str(path.parent / "solved")}
    assert config.aggregator.build().kind == "groups"
