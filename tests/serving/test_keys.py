import copy
import io
import json
import logging
import os
import pickle
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from serving import keys as keys_module
from serving.config import ServingConfig
from serving.door import Door
from serving.forgetting import expire_journals, journals_of
from serving.keys import FRESH_S, LOCAL, Key, Keys, KeysError, Unauthorised
from serving.store import Store
from serving.tables import Batch, Spend
from tests.serving.backends import kept_bytes

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as made:
        yield made


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time_() -> Time:
    return Time()


@pytest.fixture
def keys(store: Store, time_: Time) -> Keys:
    return Keys(store, clock=time_, now=time_)


def test_a_secret_finds_its_key_and_no_other(keys: Keys) -> None:
    made = [keys.create(f"key {at}") for at in range(3)]
    assert [keys.find(secret) for _, secret in made] == [key for key, _ in made]
    assert len({secret for _, secret in made}) == 3


def test_a_secret_is_its_keys_id_and_256_random_bits(keys: Keys) -> None:
    key, secret = keys.create("me")
    assert re.fullmatch(r"cp-[0-9A-Za-z]{12}-[0-9A-Za-z]{43}", secret)
    assert secret.split("-")[1] == key.id


def test_a_key_comes_back_as_it_was_made(keys: Keys, store: Store, time_: Time) -> None:
    ends = datetime.fromtimestamp(time_.now + 60, UTC)
    made, secret = keys.create(
        "all of it",
        allowed_experts=["a", "b"],
        denied_experts=["c"],
        requests_per_minute=60,
        tokens_per_minute=1e6,
        budget_usd=2.5,
        admin=True,
        expires=ends,
        defaults={"k": 2, "experts": ["a"]},
    )
    wanted = Key(
        made.id, "all of it", ("a", "b"), ("c",), 60, 1e6, 2.5, True, {"k": 2, "experts": ["a"]}, time_.now, ends.timestamp(), None
    )
    assert made == wanted
    assert Keys(store, now=time_).find(secret) == wanted
    assert keys.list() == [wanted]


def test_revoked_expired_unknown_and_malformed_are_all_none_after_the_same_steps(
    keys: Keys, store: Store, time_: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid, revoked, expired = (keys.create(name, expires=ends)[1] for name, ends in (("a", None), ("b", None), ("c", _in(time_, 60))))
    keys.revoke(revoked.split("-")[1])
    time_.now += 61
    wrong = valid[:-1] + ("0" if valid[-1] != "0" else "1")
    steps: list[str] = []
    compare, digest, read = keys_module.hmac.compare_digest, keys_module.blake2b, store.key
    monkeypatch.setattr(keys_module.hmac, "compare_digest", lambda *two: steps.append("compare") or compare(*two))
    monkeypatch.setattr(keys_module, "blake2b", lambda *args, **how: steps.append("hash") or digest(*args, **how))
    monkeypatch.setattr(store, "key", lambda id: steps.append("read") or read(id))
    tried = {}
    for secret in (valid, revoked, expired, wrong, f"cp-{'0' * 12}-{'0' * 43}", "", "cp-", "sk-else", valid + "\n", "é" * 60):
        for remembered in (False, True):
            steps.clear()
            if not remembered:
                keys._known.clear()
            tried[secret, remembered] = keys.find(secret), tuple(steps)
    assert {entry[0] for entry, (key, _) in tried.items() if key is not None} == {valid}
    assert {done for (_, remembered), (_, done) in tried.items() if not remembered} == {("read", "hash", "compare")}
    assert {done for (_, remembered), (_, done) in tried.items() if remembered} == {("hash", "compare")}


def _in(time_: Time, seconds: float) -> datetime:
    return datetime.fromtimestamp(time_.now + seconds, UTC)


def test_a_key_ends_at_its_time_even_while_it_is_remembered(keys: Keys, time_: Time) -> None:
    _, secret = keys.create("short", expires=_in(time_, FRESH_S / 2))
    assert keys.find(secret) is not None
    time_.now += FRESH_S / 2
    assert keys.find(secret) is None


def test_a_revoked_key_ends_at_once_in_this_process_and_in_seconds_in_others(keys: Keys, store: Store, url: str, time_: Time) -> None:
    key, secret = keys.create("me")
    beside = Keys(store, clock=time_, now=time_)
    with Store(url) as elsewhere:
        others = Keys(elsewhere, clock=time_, now=time_)
        for each in (keys, beside, others):
            assert each.find(secret) == key
        keys.revoke(key.id)
        assert keys.find(secret) is None
        assert beside.find(secret) is None
        assert others.find(secret) == key, "remembered for a moment"
        time_.now += FRESH_S
        assert others.find(secret) is None
    assert FRESH_S <= 5


def test_a_key_that_another_process_makes_is_found(keys: Keys, url: str, time_: Time) -> None:
    with Store(url) as elsewhere:
        _, secret = Keys(elsewhere).create("me")
        assert keys.find(secret) is not None


def test_remembering_is_bounded(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "REMEMBERED", 3)
    for at in range(10):
        keys.find(f"cp-{at:012}-{'0' * 43}")
    assert len(keys._known) == 3


def test_revoking_twice_keeps_the_first_time_and_an_unknown_id_is_named(keys: Keys, time_: Time) -> None:
    key, secret = keys.create("me")
    keys.revoke(key.id)
    time_.now += 10
    keys.revoke(key.id)
    assert keys.list() == [replace(key, revoked_at=time_.now - 10)]
    with pytest.raises(KeysError, match="no key has the id 'nobody'"):
        keys.revoke("nobody")
    with pytest.raises(KeysError) as caught:
        keys.revoke(secret)
    assert secret.split("-")[2] not in str(caught.value)


def test_a_secret_is_in_no_repr_log_error_or_store(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "sqlalchemy.engine")
    with Store(url) as store:
        keys = Keys(store)
        key, secret = keys.create("me")
        token = secret.split("-")[2]
        said = [repr(key), str(key), repr(keys), repr(keys._known), repr(copy.deepcopy(key))]
        assert keys.find(secret) is not None
        keys.revoke(key.id)
        for header in (f"Bearer {secret}", secret, f"Basic {secret}", f"Bearer {secret} {secret}"):
            with pytest.raises(Unauthorised) as caught:
                keys.authorise(header)
            said.append(f"{caught.value!r} {caught.value} {caught.value.__dict__}")
        content = kept_bytes(url)
    assert any("INSERT INTO keys" in record.getMessage() for record in caplog.records), "the store's statements are logged at this level"
    assert not [text for text in [*said, *(record.getMessage() for record in caplog.records)] if token in text]
    assert key.id.encode() in content
    assert token.encode() not in content


def test_the_same_secret_is_stored_differently_under_another_salt() -> None:
    assert keys_module._digest("x" * 43, b"1" * 16) != keys_module._digest("x" * 43, b"2" * 16)


def test_a_header_is_read_as_bearer_and_anything_else_is_refused_alike(keys: Keys) -> None:
    key, secret = keys.create("me")
    assert keys.authorise(f"Bearer {secret}") == keys.authorise(f"bearer  {secret} ") == key
    words = set()
    for header in (None, "", secret, "Bearer", "Bearer ", f"Basic {secret}", f"Bearer {secret}x", f"Bearer Bearer {secret}"):
        with pytest.raises(Unauthorised) as caught:
            keys.authorise(header)
        words.add(str(caught.value))
    assert words == {"wanted an API key that is valid, as `Authorization: Bearer cp-...`"}


def test_a_key_may_ask_what_is_allowed_and_not_denied() -> None:
    assert [Key("k", "me").allows("a"), Key("k", "me", denied_experts=("a",)).allows("a")] == [True, False]
    assert [Key("k", "me", allowed_experts=("a",)).allows(name) for name in "ab"] == [True, False]


def test_the_local_key_owns_rows_but_nothing_opens_or_revokes_it(keys: Keys, store: Store) -> None:
    assert keys.local() == keys.local()
    assert (keys.local().id, keys.local().admin) == (LOCAL, False)
    store.add_trace(LOCAL, "r1", {}, text=False)
    assert keys.list() == []
    assert keys.find(f"cp-{LOCAL}-{'0' * 43}") is None
    with pytest.raises(KeysError):
        keys.revoke(LOCAL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": " "}, "a key's name must be 1 to 200 printable characters, not ' '"),
        ({"name": "a\nb"}, "a key's name must be"),
        ({"allowed_experts": []}, "allowed_experts must name an expert"),
        ({"allowed_experts": ["a"], "denied_experts": ["a"]}, "the expert 'a' cannot be both allowed and denied"),
        ({"requests_per_minute": 0.5}, r"requests_per_minute must be at least 1, not 0\.5"),
        ({"tokens_per_minute": float("nan")}, "tokens_per_minute must be at least 1, not nan"),
        ({"budget_usd": -1.0}, r"budget_usd must be from 0 to a billion, not -1\.0"),
        ({"expires": datetime(2020, 1, 1, tzinfo=UTC)}, "expires must be in the future"),
        ({"expires": datetime(2120, 1, 1)}, "expires must have a time zone"),
        ({"defaults": {"k": object()}}, "defaults must be a JSON object"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(keys: Keys, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(KeysError, match=message):
        keys.create(**{"name": "me"} | arguments)
    assert keys.list() == []


def test_a_key_travels_between_processes(keys: Keys) -> None:
    key, _ = keys.create("me", allowed_experts=["a"])
    assert pickle.loads(pickle.dumps(key)) == key


# The command line


def test_the_commands_make_list_and_revoke_a_key(run: Run, url: str) -> None:
    code, out, err = run(
        "keys", "create", "reports", "--budget-usd", 5, "--allow", "a", "--default", "k=2", "--expires", "30d", "--store", url
    )
    secret = out.strip()
    with Store(url) as store:
        key = Keys(store).find(secret)
    assert key is not None
    assert (code, key.name, key.budget_usd, key.allowed_experts, key.defaults) == (0, "reports", 5, ("a",), {"k": 2})
    assert key.expires_at == pytest.approx((datetime.now(UTC) + timedelta(days=30)).timestamp(), abs=60)
    assert secret not in err
    code, out, _ = run("keys", "list", "--store", url)
    assert code == 0
    assert [word in out for word in (key.id, "reports", "of $5", secret.split("-")[2])] == [True, True, True, False]
    assert run("keys", "revoke", key.id, "--store", url)[0] == 0
    (listed,) = json.loads(run("keys", "list", "--json", "--store", url)[1])
    assert listed["revoked_at"] is not None
    with Store(url) as store:
        assert Keys(store).find(secret) is None


def test_a_key_is_printed_as_json_with_its_secret_once(run: Run, url: str) -> None:
    made = json.loads(run("keys", "create", "me", "--json", "--store", url)[1])
    secret = made.pop("secret")
    (listed,) = json.loads(run("keys", "list", "--json", "--store", url)[1])
    assert listed == made | {"spend": {"usd": 0.0, "prompt_tokens": 0, "completion_tokens": 0, "requests": 0}, "held_usd": 0.0}
    with Store(url) as store:
        found = Keys(store).find(secret)
    assert found is not None
    assert found.id == made["id"]


def test_the_store_is_the_users_own_or_the_environments(run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert run("keys", "create", "mine")[0] == 0
    assert (tmp_path / "data" / "counterpoint" / "store.db").exists()
    monkeypatch.setenv("COUNTERPOINT_STORE", url)
    assert json.loads(run("keys", "list", "--json")[1]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("create", "me", "--expires", "soon"),
            "--expires wants a date such as 2027-01-31, or a time from now such as 12h or 30d, not 'soon'",
        ),
        (("create", "me", "--default", "kk=2"), "--default kk: Extra inputs are not permitted"),
        (("create", "me", "--default", "k"), "--default wants OPTION=VALUE, such as k=2, not 'k'"),
        (("create", "me", "--budget-usd", "-1"), "budget_usd must be from 0 to a billion, not -1.0"),
        (("revoke", "nobody"), "no key has the id 'nobody'; `counterpoint keys list` shows them"),
        (("list", "--store", "mysql://a/b"), "a store is kept by sqlite or postgresql, not 'mysql'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("COUNTERPOINT_STORE", url)
    assert run("keys", *arguments) == (2, "", f"counterpoint: {message}\n")


def test_without_the_extra_serve_one_is_told_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "serving.store", raising=False)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    assert run("keys", "list") == (2, "", "counterpoint: keys need sqlalchemy: install counterpoint-server[serve]\n")


# Forgetting


def said(store: Store, owner: str, status: str = "completed") -> None:
    store.add_trace(owner, "r1", {"text": f"asked by {owner}"}, text=True)
    store.add_feedback(owner, "r1", 0.5, f"thought by {owner}")
    store.add_file(owner, "f1", "in.jsonl", "batch", f"lines of {owner}".encode())
    store.save_batch(owner, Batch(f"batch_{owner}", "/v1/chat/completions", "f1", "24h", status, 1, metadata={"for": f"plan of {owner}"}))
    store.save_conversation(owner, "c1", f"title of {owner}", [{"role": "user", "content": "Hello"}])
    store.settle(owner, Spend(0.25, 10, 5, 1))


ALL = {"feedback": 1, "traces": 1, "files": 1, "batches": 1, "conversations": 1}


def test_forgetting_a_key_leaves_no_byte_of_what_it_said_and_all_that_it_spent(run: Run, url: str, tmp_path: Path) -> None:
    with Store(url) as store:
        ann, bob = (Keys(store).create(name)[0].id for name in ("ann", "bob"))
        for owner in (ann, bob):
            said(store, owner)
            journals_of(url).mkdir(parents=True, exist_ok=True)
            for part in ("in", "out"):
                (journals_of(url) / f"batch_{owner}.{part}.jsonl").write_text(f"journal of {owner}")
    code, out, err = run("keys", "forget", "ann", "--store", url, "--yes")
    assert (code, out) == (0, "")
    words = " ".join(err.split())
    assert f"deleted of ann ({ann}): feedback 1, traces 1, files 1, batches 1, conversations 1, journals 2" in words
    assert "kept: the key, and what it has spent ($0.2500, requests 1)" in words
    left = kept_bytes(url) + b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for kind in ("asked by", "thought by", "lines of", "plan of", "title of", "journal of"):
        assert [f"{kind} {owner}".encode() in left for owner in (ann, bob)] == [False, True], kind
    with Store(url) as store:
        assert store.spend(ann) == Spend(0.25, 10, 5, 1)
        assert store.kept(ann) == dict.fromkeys(ALL, 0)
        assert store.kept(bob) == ALL
        assert {key.id for key in Keys(store).list()} == {ann, bob}


def test_a_key_is_forgotten_by_its_id_too_and_told_as_json(run: Run, url: str) -> None:
    with Store(url) as store:
        ann = Keys(store).create("ann")[0].id
        Keys(store).local()
        for owner in (ann, LOCAL):
            said(store, owner)
    for name, owner in ((ann, ann), (LOCAL, LOCAL)):
        code, out, _ = run("keys", "forget", name, "--store", url, "--yes", "--json")
        told = json.loads(out)
        assert (code, told["id"], told["deleted"], told["copies"]) == (0, owner, ALL | {"journals": 0}, [])
        assert told["kept"]["spend"]["usd"] == 0.25
    assert json.loads(run("keys", "forget", ann, "--store", url, "--yes", "--json")[1])["deleted"] == dict.fromkeys([*ALL, "journals"], 0)


def test_forgetting_asks_first_and_is_refused_where_nobody_can_be_asked(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(url) as store:
        ann = Keys(store).create("ann")[0].id
        said(store, ann)
    assert run("keys", "forget", "ann", "--store", url) == (2, "", f"counterpoint: forgetting ann ({ann}) cannot be undone: say --yes\n")
    for answer, left in (("n", 1), ("y", 0)):
        answers = io.StringIO(f"{answer}\n")
        monkeypatch.setattr(answers, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", answers)
        code, out, _ = run("keys", "forget", "ann", "--store", url)
        assert code == left
        assert "delete feedback 1, traces 1, files 1, batches 1, conversations 1 of ann" in out
        with Store(url) as store:
            assert store.kept(ann)["traces"] == left


def test_a_key_with_a_batch_under_way_is_forgotten_only_where_that_is_said(run: Run, url: str) -> None:
    with Store(url) as store:
        ann = Keys(store).create("ann")[0].id
        said(store, ann, "in_progress")
    code, _, err = run("keys", "forget", "ann", "--store", url, "--yes")
    assert code == 2
    assert f"batches under way: 1, such as batch_{ann}" in err
    with Store(url) as store:
        assert store.kept(ann) == ALL
    assert run("keys", "forget", "ann", "--store", url, "--yes", "--running")[0] == 0
    with Store(url) as store:
        assert store.kept(ann) == dict.fromkeys(ALL, 0)


def test_a_name_that_several_keys_have_is_no_name_to_forget_by(run: Run, url: str) -> None:
    with Store(url) as store:
        ids = [Keys(store).create("twin")[0].id for _ in range(2)]
        secret = Keys(store).create("ann")[1]
    assert run("keys", "forget", "twin", "--store", url, "--yes") == (
        2, "", f"counterpoint: 2 keys are called 'twin': give the id of one, {ids[0]}, {ids[1]}\n"
    )  # fmt: skip
    for wrong in ("nobody", secret):
        code, _, err = run("keys", "forget", wrong, "--store", url, "--yes")
        assert code == 2
        assert secret not in err
        assert "no key has the name or id" in err


def test_copies_of_the_store_are_named_because_they_still_hold_it(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"  # of a server's store Counterpoint makes none
    with Store(url) as store:
        Keys(store).create("ann")
    (tmp_path / "store.db.v1.bak").write_bytes(b"")
    _, _, err = run("keys", "forget", "ann", "--store", url, "--yes")
    assert f"still holds what is deleted here: {tmp_path / 'store.db.v1.bak'}\n" in err  # whole, however narrow the terminal


def test_journals_that_a_crash_left_expire_and_those_of_running_batches_stay(store: Store, url: str) -> None:
    Keys(store).local()
    folder = journals_of(url)
    folder.mkdir(parents=True)
    for name, status in (("old", "completed"), ("running", "in_progress"), ("new", "completed")):
        store.save_batch(LOCAL, Batch(f"batch_{name}", "/v1/chat/completions", "f1", "24h", status, 1))
        for part in ("in", "out"):
            path = folder / f"batch_{name}.{part}.jsonl"
            path.write_text("text")
            os.utime(path, (100, 100) if name != "new" else (300, 300))
    (folder / "mine.jsonl").write_text("not a journal")
    os.utime(folder / "mine.jsonl", (100, 100))
    assert expire_journals(store, folder, 200) == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        "batch_new.in.jsonl", "batch_new.out.jsonl", "batch_running.in.jsonl", "batch_running.out.jsonl", "mine.jsonl"
    ]  # fmt: skip


async def test_the_endpoint_tidies_what_is_older_than_keep_days(url: str) -> None:
    door = Door(ServingConfig(store=url, keep_days=1))
    assert door.store is not None
    assert door.keys is not None
    owner = door.keys.local().id
    now = time.time()
    for name, at in (("old", now - 2 * 86_400), ("new", now)):
        door.store.add_trace(owner, name, {}, text=False, at=at)
        door.store.add_feedback(owner, name, 1.0, "words", at=at)
        door.store.save_conversation(owner, name, "words", [], at=at)
        journals_of(url).mkdir(parents=True, exist_ok=True)
        (journals_of(url) / f"batch_{name}.in.jsonl").write_text("words")
        os.utime(journals_of(url) / f"batch_{name}.in.jsonl", (at, at))
    await door.tidy()
    assert [row.request_id for row in door.store.traces(owner)] == ["new"]
    assert [row.id for row in door.store.conversations(owner)] == ["new"]
    assert [(row.request_id, row.comment) for row in door.store.feedbacks(owner)] == [("new", "words"), ("old", None)]
    assert [path.name for path in journals_of(url).iterdir()] == ["batch_new.in.jsonl"]
    door.close()
