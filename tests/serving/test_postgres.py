"""What is PostgreSQL's own: several processes write at once, rows are locked, connections end, and texts hold no NUL."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url

from serving import database
from serving.conversations import Conversations
from serving.database import StoreError
from serving.keys import Keys
from serving.migrate import migrate
from serving.store import BudgetError, Store
from serving.tables import Spend
from tests.serving.backends import execute

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def url(postgres: Callable[[], str]) -> str:
    return postgres()


def with_key(url: str, **columns: object) -> Store:
    store = Store(url)
    store.add_key("ann", name="ann", salt=b"", digest=b"", **columns)
    return store


SPENDER = """
import sys
import threading
from serving.keys import Keys
from serving.limits import Limiter, LimitError
from serving.store import Store
from data.records import Usage

store = Store(sys.argv[1])
limiter, (key,) = Limiter(store), Keys(store).list()
passed = 0

def ask():
    global passed
    for at in range(40):
        try:
            admission = limiter.admit(key, tokens=0, usd=0.02)
        except LimitError:
            continue
        admission.settle(Usage(1, 0, 0.02 if at % 2 else 0.01, 1))

def watch():
    global passed
    while not done.is_set():
        passed += store.spend(key.id).usd > 1.0

done = threading.Event()
print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=ask) for _ in range(4)]
watcher = threading.Thread(target=watch)
for thread in (*threads, watcher):
    thread.start()
for thread in threads:
    thread.join()
done.set()
watcher.join()
store.close()
print(passed)
"""


def test_processes_that_ask_at_once_never_pass_the_budget_together_and_leave_none_of_it(url: str) -> None:
    with Store(url) as store:
        key = Keys(store).create("me", budget_usd=1.0)[0]
        command = [sys.executable, "-c", SPENDER, url]
        others = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)]
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
        for other in others:
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()
        said = [other.communicate(timeout=60)[0] for other in others]
        assert said == ["0\n"] * 3
        assert (store.held(key.id), store.spend(key.id).usd <= 1.0) == (0, True)
        assert store.spend(key.id).usd > 0.98 - 1e-9, "what is left holds no further request"


def test_what_becomes_spend_while_somebody_asks_is_counted(url: str) -> None:
    with with_key(url, budget_usd=1.0) as one, Store(url) as other:
        one.hold("ann", "h1", 0.6)
        settled: list[bool] = []

        def read(*execution: Any) -> None:
            if "FROM spend" in execution[2] and not settled:  # what was spent has been read
                settled.append(other.settle("ann", Spend(0.6), "h1"))

        event.listen(one.database.engine, "after_cursor_execute", read)
        with pytest.raises(BudgetError):
            one.hold("ann", "h2", 0.5)
        assert settled == [True]
        assert (one.spend("ann").usd, one.held("ann")) == (0.6, 0)


def test_one_that_writes_waits_for_no_other_key_and_for_a_lock_only_so_long(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.2)
    with with_key(url, budget_usd=1.0) as one, Store(url) as other:
        other.add_key("bob", name="bob", salt=b"", digest=b"", budget_usd=1.0)
        with one.database.writing() as connection:
            connection.exec_driver_sql("SELECT 1 FROM keys WHERE id = 'ann' FOR NO KEY UPDATE")
            other.hold("bob", "h", 0.5)
            other.add_trace("ann", "r", {}, text=False)
            with pytest.raises(StoreError, match="cannot be used: canceling statement due to lock timeout"):
                other.hold("ann", "h", 0.5)
        other.hold("ann", "h", 0.5)


def test_two_stores_that_append_to_one_conversation_lose_nothing(url: str) -> None:
    with with_key(url) as one, Store(url) as other:
        made = Conversations(one).create("ann", None, [])

        def append(at: int) -> None:
            Conversations((one, other)[at % 2]).change("ann", made.id, append=[{"role": "user", "content": f"{at}"}])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(append, range(40)))
        found = Conversations(one).get("ann", made.id)
    assert found is not None
    assert sorted(int(message["content"]) for message in found.messages) == [*range(40)]


def test_a_reader_sees_one_state(url: str) -> None:
    with with_key(url) as store, store.database.reading() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM traces").scalar_one()
        store.add_trace("ann", "r1", {}, text=False)
        assert connection.exec_driver_sql("SELECT count(*) FROM traces").scalar_one() == before == 0


def test_the_servers_defaults_make_nothing_less_safe(url: str) -> None:
    weak = make_url(url)
    options = f"{weak.query['options']} -c synchronous_commit=off -c default_transaction_isolation=serializable"
    with with_key(weak.update_query_dict({"options": options}).render_as_string(hide_password=False)) as store:
        names = ("synchronous_commit", "transaction_isolation", "transaction_read_only")
        with store.database.writing() as connection:
            assert [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names] == ["on", "read committed", "off"]
        with store.database.reading() as connection:
            assert [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names] == ["on", "repeatable read", "on"]


def test_connections_that_the_server_ends_are_made_again(url: str) -> None:
    with with_key(url) as store:
        store.add_trace("ann", "r1", {}, text=False)
        name = make_url(url).query["application_name"]
        execute(
            url.replace(f"application_name={name}", ""),
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'",
        )
        assert store.trace("ann", "r1") is not None
        store.add_trace("ann", "r2", {}, text=False)


def test_what_its_texts_cannot_hold_is_kept_readable(url: str) -> None:
    with with_key(url) as store:
        store.add_feedback("ann", "r1", 1.0, "a\0b")
        store.save_conversation("ann", "c1", "\0", [{"role": "user", "content": "x\0y\ud800"}])
        store.add_file("ann", "f1", "n\0", "batch", b"\0\xff")
        store.add_trace("ann", "r1", {"scores": [float("nan"), 1.5, float("inf")]}, text=False)
        kept, feedback, file, trace = (
            store.conversation("ann", "c1"),
            store.feedback("ann", "r1"),
            store.file("ann", "f1"),
            store.trace("ann", "r1"),
        )
        assert (kept, feedback, file, trace) != (None,) * 4
        assert kept is not None
        assert (kept.title, kept.messages[0]["content"]) == ("\ufffd", "x\0y\ud800")
        assert feedback is not None
        assert feedback.comment == "a\ufffdb"
        assert file is not None
        assert (file.filename, store.file_content("ann", "f1")) == ("n\ufffd", b"\0\xff")
        assert trace is not None
        assert trace.body == {"scores": [None, 1.5, None]}
        assert store.file("ann", "f1\0") is None
        assert [row.messages for row in Conversations(store).list("ann")] == [1]


def test_other_tables_are_no_store_and_a_password_stays_hidden(url: str) -> None:
    execute(url, "CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreError, match="is no store of Counterpoint: it has other tables, such as 'recipes'"):
        Store(url)
    with pytest.raises(StoreError, match=r"the store postgresql\+psycopg://me:\*\*\*@127\.0\.0\.1:1/db cannot be used: ") as caught:
        Store("postgresql://me:sesame@127.0.0.1:1/db")
    cause: BaseException | None = caught.value
    while cause is not None:
        assert "sesame" not in str(cause)
        cause = cause.__cause__


def test_migrate_converts_a_store_on_a_server_where_no_copy_is_wanted(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with with_key(url) as store:
        store.settle("ann", Spend(0.25, 10, 5, 1), at=0)
    assert [item.did for item in migrate([url])] == ["current"]
    newest = max(int(path.stem.removeprefix("v")) for path in database.MIGRATIONS.glob("v*.py"))
    for path in database.MIGRATIONS.glob("v*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    step = "def upgrade():\n    op.add_column('keys', sa.Column('note', sa.String(20), nullable=False, server_default='-'))\n"
    head = f"import sqlalchemy as sa\nfrom alembic import op\nrevision, down_revision = '{newest + 1}', '{newest}'\n"
    (tmp_path / f"v{newest + 1}.py").write_text(head + step)
    monkeypatch.setattr(database, "MIGRATIONS", tmp_path)
    (item,) = migrate([url])
    assert (item.did, item.error) == ("refused", "a store in PostgreSQL is not copied: make a copy by pg_dump, then say --no-backup")
    assert [each.did for each in migrate([url], dry_run=True)] == ["would be converted"]
    assert [each.did for each in (*migrate([url], backup=False), *migrate([url]))] == ["converted", "current"]
    assert execute(url, "SELECT id, note FROM keys") == [("ann", "-")]
    with Store(url, migrations=tmp_path) as store:
        assert store.spend("ann") == Spend(0.25, 10, 5, 1)
