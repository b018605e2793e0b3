"""Recorded answers of real models played back by `eval run`: its report shows the figures of the docs on routing and aggregation."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from data.scores import experts_of, read_scores
from serving.evaluation.folder import systems_of
from serving.evaluation.rundata import RunData

DOCS = Path(__file__).parents[2] / "docs"
DATA = Path(os.environ.get("COUNTERPOINT_BENCH_DATA", "")) / "mmlu_pro_small.parquet"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_file(), reason="COUNTERPOINT_BENCH_DATA names no folder with mmlu_pro_small.parquet")
def test_the_report_on_mmlu_pro_shows_the_figures_of_the_docs(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    names = experts_of(read_scores(DATA))
    body = {
        "version": 1,
        "name": "recorded",
        "experts": [{"name": name, "model": "-", "engine": "scripted", "options": {"script": []}} for name in names],
        "router": {"path": "package:routers/open-8b", "policy": {"kind": "top-k", "k": 3}},
        "aggregator": {"kind": "vote"},
    }
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    further = [part for kind in ("best", "weighted") for part in ("--aggregator", kind)]
    played = ["-b", f"scores:{DATA}", "--from", str(DATA), "--runs", str(tmp_path), "--name", "r"]
    code, _, error = run("eval", "run", "-c", str(tmp_path / "m.yaml"), *played, *further)
    assert code == 0, error
    found = {system.name: system.interval() for system in systems_of(RunData.load(tmp_path / "r"))}
    section = (DOCS / "aggregation.md").read_text().partition("The other kinds that ask no LLM:")[2].partition("<!--")[0]
    table = re.findall(r"\| (best|vote|weighted) \| ([^|]+) \|", section)
    assert len(table) == 3
    for kind, figure in table:
        at = found["mixture" if kind == "vote" else f"mixture:{kind}"]
        assert f"{100 * at.mean:.1f} [{100 * at.low:.1f}, {100 * at.high:.1f}]" == figure, kind
    pattern = r"mmlu_pro_small \| top-1 on test \| [\d.]+ \| (best-single|category-oracle) ([\d.]+)"
    told = dict(re.findall(pattern, (DOCS / "routing.md").read_text()))
    assert {name: f"{100 * found[name].mean:.2f}" for name in told} == told
    assert len(told) == 2
    report = (tmp_path / "r" / "report.md").read_text()
    assert f"{100 * found['mixture'].mean:.1f}" in report
