import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.config import MixtureConfig
from serving.gateway import Gateway
from serving.routes import make_app

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "counterpoint.json").read_text())
SCRIPT = [{"match": "break", "fail": "told to fail"}, {"match": ".", "say": "four words it says"}]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])


async def labels() -> dict[str, set[str]]:
    """The names of all figures of a live endpoint, and their labels as far as there are samples."""
    from prometheus_client.parser import text_string_to_metric_families

    experts = [{"name": name, "model": "-", "engine": "scripted", "options": {"script": SCRIPT}} for name in "ab"]
    gateway = Gateway(MixtureConfig.model_validate({"version": 1, "name": "mix", "experts": experts}))
    await gateway.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app(gateway)), base_url="http://127.0.0.1") as client:
            for text, stream in (("Who?", True), ("break", False)):
                body = {"model": "mix", "messages": [{"role": "user", "content": text}], "stream": stream}
                await client.post("/v1/chat/completions", json=body)
            exposed = (await client.get("/metrics")).text
    finally:
        await gateway.stop()
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(exposed):
        for suffix in suffixes[family.type]:
            found[family.name + suffix] = set()
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return found


async def test_every_figure_of_the_dashboard_is_one_of_the_endpoints() -> None:
    exposed = await labels()
    used = {name for text in expressions() for name in re.findall(r"counterpoint_\w+", text)}
    assert used - set(exposed) == set()
    variables = [entry["query"]["query"] for entry in DASHBOARD["templating"]["list"] if entry["type"] == "query"]
    assert {name for text in variables for name in re.findall(r"counterpoint_\w+", text)} <= set(exposed)


async def test_every_label_of_the_dashboard_is_one_of_the_figures() -> None:
    exposed = await labels()
    for text in expressions():
        figure = re.findall(r"counterpoint_\w+", text)[0]
        wanted = {label for group in re.findall(r"by \(([^)]*)\)", text) for label in re.split(r",\s*", group)}
        wanted |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|=)", text))
        if exposed[figure]:  # figures of slots have samples where there are slots: tests/serving/test_metrics.py
            assert wanted <= exposed[figure], text


async def test_every_figure_is_on_the_dashboard() -> None:
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for text in expressions() for name in re.findall(r"counterpoint_\w+", text)}
    here = {re.sub(r"_(bucket|sum|count)$", "", name) for name in await labels() if name.startswith("counterpoint_")}
    assert here - shown == {"counterpoint_completion_tokens_total"}, "what the pool counts as written is shown in its place"


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_panel_asks_the_data_source_that_was_chosen() -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    (chosen,) = [entry for entry in DASHBOARD["templating"]["list"] if entry["type"] == "datasource"]
    assert (chosen["name"], chosen["query"]) == ("datasource", "prometheus")
    for panel in panels():
        assert panel["datasource"] == source
        assert [target["datasource"] for target in panel["targets"]] == [source] * len(panel["targets"])
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)) > 0
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert re.findall(r'"uid": "(?!\$\{datasource\}|counterpoint")', json.dumps(DASHBOARD)) == []
    assert DASHBOARD["schemaVersion"] >= 38, "Grafana 10's"
    assert "id" not in DASHBOARD, "Grafana gives a number to what is imported"


@pytest.mark.parametrize("text", sorted(set(expressions())))
def test_an_expressions_brackets_close(text: str) -> None:
    left, closing = [], {")": "(", "}": "{", "]": "["}
    for sign in re.sub(r'"[^"]*"', "", text):
        if sign in closing.values():
            left.append(sign)
        elif sign in closing:
            assert left.pop() == closing[sign]
    assert left == []
    assert set(re.findall(r"\$(\w+)", text)) <= {"__rate_interval", "expert"}


def test_prometheus_is_sent_to_the_path_that_there_is() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert (job["metrics_path"], job["static_configs"]) == ("/metrics", [{"targets": ["127.0.0.1:8000"]}])
    serving = MixtureConfig.model_validate({"version": 1, "experts": [{"name": "a", "model": "-", "engine": "scripted"}]}).serving
    assert job["static_configs"][0]["targets"] == [f"{serving.host}:{serving.port}"]
