import json
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.config import MixtureConfig, expert_specs, load_config
from serving.demo import MIXTURE
from serving.journal import Journal, JournalError
from serving.pipeline import RequestError
from serving.protocol import parse_chat, parse_json

HI = [{"role": "user", "content": "hi"}]


def test_what_is_served_is_what_was_configured() -> None:
    config = load_config(MIXTURE)
    sent = MixtureConfig.model_validate(config.model_dump(exclude_unset=True))  # as it travels to the endpoint's process
    assert expert_specs(sent) == expert_specs(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 10**23),
        ("seed", -1),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("temperature", 3),
        ("top_p", 0),
        ("max_tokens", 0),
        ("n", 17),
        ("n", 0),
    ],
)
def test_a_value_that_an_engine_cannot_take_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=field):
        parse_chat({"model": "m", "messages": HI, field: value})


@pytest.mark.parametrize("raw", ["[" * 100_000, '{"a": "\\ud800"}', "{", ""])
def test_json_that_would_break_us_is_a_plain_error(raw: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(raw)


def test_a_journal_leaves_a_foreign_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for text in ("dear diary", '{"half": '):
        path.write_text(text)
        with pytest.raises(JournalError), Journal(path):
            pass
        assert path.read_text() == text
    path.write_text('{"precious": 1}')
    with Journal(path) as journal:
        assert journal.rows == [{"precious": 1}]
    assert path.read_text() == '{"precious": 1}\n'


def test_a_journal_drops_rows_and_goes_on(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.jsonl") as journal:
        journal.add({"a": 1})
        journal.add({"a": 2})
    with Journal(tmp_path / "out.jsonl") as journal:
        journal.drop(lambda row: row["a"] == 1)
        journal.add({"a": 3})
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [{"a": 2}, {"a": 3}]


def test_a_key_with_a_stray_line_feed_works_and_a_broken_one_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from experts import EngineError, ExpertSpec
    from experts.remote import api_key

    spec = ExpertSpec("far", "m", "openai", api_key_env="STRAY_KEY")
    monkeypatch.setenv("STRAY_KEY", "sk-secret\n")
    assert api_key(spec) == "sk-secret"
    monkeypatch.setenv("STRAY_KEY", "sk-\x07secret")
    with pytest.raises(EngineError) as caught:
        api_key(spec)
    assert "secret" not in str(caught.value)


def test_unicodes_other_line_ends_stay_inside_a_line(mixture: Callable[..., Path], tmp_path: Path) -> None:
    from serving.batch import read_batch

    body = {"model": "mix", "messages": [{"role": "user", "content": "one\u2028two\u0085three"}]}
    (tmp_path / "in.jsonl").write_text(json.dumps({"custom_id": "1", "body": body}, ensure_ascii=False) + "\n")
    lines = read_batch(tmp_path / "in.jsonl")
    assert [line.error for line in lines] == [""]
