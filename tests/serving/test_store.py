import inspect
import os
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.engine import make_url

from serving import database, postgresql, tables
from serving.database import MIGRATIONS, StoreError
from serving.store import FORGOTTEN, Store, default_url
from serving.tables import Batch, Conversation, Feedback, Spend, StoredFile, StoredTrace
from tests.serving.backends import execute, kept_bytes

ROOT = Path(__file__).parent.parent.parent
OWNED = [name for name, table in tables.metadata.tables.items() if "owner" in table.c]


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def shown(url: str) -> str:
    """A store's URL as errors name it."""
    return make_url(url.replace("postgresql:", "postgresql+psycopg:")).render_as_string()


def opened(url: str, *owners: str) -> Store:
    store = Store(url)
    for owner in owners:
        store.add_key(owner, name=owner, salt=b"", digest=b"")
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file, for what is SQLite's own."""
    return tmp_path / "store.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with opened(url, "ann", "bob") as made:
        yield made


def batch(id: str, **fields: Any) -> Batch:
    return Batch(id, "/v1/chat/completions", "file-in", "24h", fields.pop("status", "in_progress"), fields.pop("created_at", 100), **fields)


def fill(store: Store, owner: str) -> None:
    store.settle(owner, Spend(0.25, 10, 5, 1), at=0)
    store.add_feedback(owner, "r1", 0.5, "fair enough", at=1)
    store.add_trace(owner, "r1", {"question": f"what {owner} asked"}, text=True, at=2)
    store.add_file(owner, "f1", "in.jsonl", "batch", b"{}\n", created_at=3)
    store.save_batch(owner, batch("b1", metadata={"for": owner}))
    store.save_conversation(owner, "c1", "Hello", [{"role": "user", "content": "Hello"}], at=4)


def test_all_is_there_when_the_store_is_opened_again(url: str) -> None:
    with opened(url, "ann") as store:
        fill(store, "ann")
    with Store(url) as store:
        assert store.spend("ann") == Spend(0.25, 10, 5, 1)
        assert store.spend_by_day("ann") == {"1970-01-01": Spend(0.25, 10, 5, 1)}
        assert store.feedback("ann", "r1") == Feedback("r1", 0.5, "fair enough", 1)
        assert store.trace("ann", "r1") == StoredTrace("r1", 2, {"question": "what ann asked"}, True)
        assert store.file("ann", "f1") == StoredFile("f1", "in.jsonl", "batch", 3, 3)
        assert store.file_content("ann", "f1") == b"{}\n"
        assert store.batch("ann", "b1") == batch("b1", metadata={"for": "ann"})
        assert store.conversation("ann", "c1") == Conversation("c1", "Hello", [{"role": "user", "content": "Hello"}], 4)


def test_spend_adds_up_to_the_billionth_and_by_day(store: Store) -> None:
    for _ in range(10):
        store.settle("ann", Spend(0.1, 3, 2, 1), at=0)
    store.settle("ann", Spend(1e-9, 1, 1, 1), at=86_400)
    assert store.spend("ann") == Spend(1.000000001, 31, 21, 11)  # ten times 0.1 in binary is not 1
    assert store.spend_by_day("ann") == {"1970-01-01": Spend(1.0, 30, 20, 10), "1970-01-02": Spend(1e-9, 1, 1, 1)}
    assert store.spend("bob") == Spend()


def test_a_hold_is_settled_once_and_an_old_one_becomes_spend(store: Store) -> None:
    store.hold("ann", "h1", 0.5)
    store.hold("ann", "h2", 0.25, at=10)
    assert store.held("ann") == 0.75
    assert [store.settle("ann", Spend(0.1, 1, 1, 1), "h1") for _ in range(2)] == [True, False]
    assert [store.settle("bob", Spend(0.1, 1, 1, 1), "h2"), store.release("bob", "h2")] == [False, False]
    assert store.book_holds(before=11) == 1
    assert (store.held("ann"), store.spend("ann")) == (0, Spend(0.35, 1, 1, 2))


def test_pages_go_from_the_newest_on_and_miss_nothing(store: Store) -> None:
    for at in (1, 1, 1, 2, 2, 3):
        store.add_file("ann", f"f{at}-{random.random()}", "x", "batch", b"", created_at=at)
    store.add_file("bob", "f0", "x", "batch", b"", created_at=2)
    every = store.files("ann")
    assert [entry.created_at for entry in every] == [3, 2, 2, 1, 1, 1]
    paged: list[StoredFile] = []
    while page := store.files("ann", limit=2, after=paged[-1].id if paged else None):
        paged += page
    assert paged == every
    assert store.files("ann", after="f0") == [], "somebody else's id is no place in the list"
    assert store.files("ann", purpose="assistants") == []


def test_a_batch_changes_field_by_field(store: Store) -> None:
    store.save_batch("ann", batch("b1"))
    counts = {"total": 3, "completed": 3, "failed": 0}
    assert store.change_batch("bob", "b1", status="cancelled") is None
    assert [entry.id for entry in store.batches("ann", running=True)] == ["b1"]
    changed = store.change_batch("ann", "b1", status="completed", request_counts=counts, output_file_id="f9", completed_at=7)
    assert changed == batch("b1", status="completed", request_counts=counts, output_file_id="f9", completed_at=7)
    assert store.batches("ann", running=True) == []
    with pytest.raises(StoreError, match=r"a batch has no field 'colour'; there are endpoint, "):
        store.change_batch("ann", "b1", colour="red")


# Owners

OWNERS, IDS = ("o1", "o2", "o3"), ("i1", "i2", "i3")
KINDS = ("feedback", "trace", "file", "batch", "conversation", "change", "drop file", "drop conversation", "forget", "spend")
operations = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(OWNERS), st.sampled_from(IDS), st.integers(0, 9)), max_size=30)


@pytest.fixture(scope="module")
def shared(new_url: Callable[[], str]) -> Iterator[Store]:
    with opened(new_url()) as made:
        yield made


rounds = iter(range(10**9))


@given(operations)
@settings(max_examples=40, deadline=None)
def test_each_owner_sees_what_they_did_and_nothing_else(shared: Store, done: list[tuple[str, str, str, int]]) -> None:
    prefix = f"{next(rounds)}-"
    for owner in OWNERS:
        shared.add_key(prefix + owner, name=owner, salt=b"", digest=b"")
    model: dict[str, dict[str, dict[str, Any]]] = {owner: defaultdict(dict) for owner in OWNERS}
    spent = dict.fromkeys(OWNERS, 0)
    for kind, name, id, value in done:
        owner, rows = prefix + name, model[name]
        match kind:
            case "feedback":
                shared.add_feedback(owner, id, value / 10, None, at=value)
                rows[kind][id] = Feedback(id, value / 10, None, value)
            case "trace":
                shared.add_trace(owner, id, {"value": value}, text=value > 5, at=value)
                rows[kind][id] = StoredTrace(id, value, {"value": value}, value > 5)
            case "file":
                shared.add_file(owner, id, f"{value}", "batch", b"x" * value, created_at=value)
                rows[kind][id] = StoredFile(id, f"{value}", "batch", value, value)
            case "batch":
                shared.save_batch(owner, batch(id, created_at=value))
                rows[kind][id] = batch(id, created_at=value)
            case "conversation":
                shared.save_conversation(owner, id, f"{value}", [{"content": value}], at=value)
                rows[kind][id] = Conversation(id, f"{value}", [{"content": value}], value)
            case "change":
                changed = shared.change_batch(owner, id, status="completed", failed_at=value)
                if (old := rows["batch"].get(id)) is not None:
                    rows["batch"][id] = batch(id, created_at=old.created_at, status="completed", failed_at=value)
                assert changed == rows["batch"].get(id)
            case "drop file":
                assert shared.delete_file(owner, id) == (rows["file"].pop(id, None) is not None)
            case "drop conversation":
                assert shared.delete_conversation(owner, id) == (rows["conversation"].pop(id, None) is not None)
            case "forget":
                assert shared.forget(owner) == sum(map(len, rows.values()))
                rows.clear()
            case "spend":
                shared.settle(owner, Spend(value / 10, value, 0, 1))
                spent[name] += value
    for name in OWNERS:
        owner, rows = prefix + name, model[name]
        for kind, one, several in (
            ("feedback", shared.feedback, shared.feedbacks),
            ("trace", shared.trace, shared.traces),
            ("file", shared.file, shared.files),
            ("batch", shared.batch, shared.batches),
            ("conversation", shared.conversation, shared.conversations),
        ):
            assert [one(owner, id) for id in IDS] == [rows[kind].get(id) for id in IDS]
            listed: list[Any] = several(owner)  # type: ignore[operator]
            assert {getattr(row, "id", None) or row.request_id: row for row in listed} == rows[kind]
            assert len(listed) == len(rows[kind])
        contents = [None if id not in rows["file"] else b"x" * rows["file"][id].bytes for id in IDS]
        assert [shared.file_content(owner, id) for id in IDS] == contents
        assert (shared.spend(owner).usd, shared.spend(owner).prompt_tokens) == (spent[name] / 10, spent[name])


FOR_ALL = {"close", "add_key", "key", "keys", "revoke_key", "book_holds", "expire"}


def test_every_method_on_rows_of_owners_takes_the_owner_first() -> None:
    methods = {name: method for name, method in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
    assert methods.keys() >= FOR_ALL
    assert {name for name, method in methods.items() if list(inspect.signature(method).parameters)[1:2] != ["owner"]} == FOR_ALL


def test_every_statement_on_rows_of_owners_names_the_owner(store: Store) -> None:
    statements: list[str] = []
    event.listen(store._database.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    fill(store, "ann")
    values: dict[str, Any] = {
        "score": 1.0,
        "body": {},
        "content": b"",
        "messages": [],
        "used": Spend(),
        "batch": batch("b1"),
        "usd": 0.0,
        "text": True,
        "status": "failed",
    }
    names = [name for name in dir(Store) if not name.startswith("_") and callable(getattr(Store, name)) and name not in FOR_ALL]
    for name in sorted(names):
        parameters = inspect.signature(getattr(store, name)).parameters
        needed = [entry for entry in parameters.values() if entry.default is entry.empty and entry.kind is not entry.VAR_KEYWORD]
        arguments = {entry.name: values.get(entry.name, "ann") for entry in needed} | (
            {"status": "failed"} if name == "change_batch" else {}
        )
        getattr(store, name)(**arguments)
    of_owners = [text for text in statements if re.search(rf"\b(FROM|UPDATE|INTO) ({'|'.join(OWNED)})\b", text)]
    verbs = {text.split()[0] for text in of_owners}
    assert verbs == {"SELECT", "UPDATE", "DELETE", "INSERT"}
    for text in of_owners:
        assert text.startswith("INSERT INTO") or re.search(r"WHERE \w+\.owner = (\?|%\(owner_\d+\)s)", text), text


def test_a_row_needs_a_key_that_is_there(store: Store) -> None:
    with pytest.raises(StoreError, match="refuses a row: no key has this id"):
        store.add_trace("nobody", "r1", {}, text=False)


def test_a_score_outside_its_range_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match=r"score must be from 0 to 1, not 1\.5"):
        store.add_feedback("ann", "r1", 1.5)
    assert store.feedbacks("ann") == []


# Forgetting


def test_forgetting_leaves_spend_and_other_owners_and_no_bytes_behind(store: Store, url: str) -> None:
    for owner in ("ann", "bob"):
        fill(store, owner)
    assert b"what ann asked" in kept_bytes(url)
    assert store.forget("ann") == 5
    assert b"what ann asked" not in kept_bytes(url)
    assert b"what bob asked" in kept_bytes(url)
    assert store.spend("ann") == Spend(0.25, 10, 5, 1)
    assert store.key("ann") is not None
    assert [*store.traces("ann"), *store.files("ann"), *store.batches("ann"), *store.conversations("ann"), *store.feedbacks("ann")] == []


def test_what_is_old_expires_but_not_the_files_of_a_running_batch(store: Store, url: str) -> None:
    for owner, status in (("ann", "in_progress"), ("bob", "completed")):
        store.add_trace(owner, "old", {"say": "old words"}, text=True, at=10)
        store.add_trace(owner, "new", {}, text=False, at=30)
        store.add_file(owner, "file-in", "in", "batch", b"1", created_at=10)
        store.add_file(owner, "file-new", "in", "batch", b"1", created_at=30)
        store.save_batch(owner, batch("b", status=status))
    assert store.expire(before=20) == 3
    assert [trace.request_id for trace in (*store.traces("ann"), *store.traces("bob"))] == ["new", "new"]
    assert [[file.id for file in store.files(owner)] for owner in ("ann", "bob")] == [["file-new", "file-in"], ["file-new"]]
    assert b"old words" not in kept_bytes(url)


def test_all_that_holds_texts_expires_and_scores_stay(store: Store, url: str) -> None:
    for at in (10, 30):
        store.add_feedback("ann", f"r{at}", 0.5, f"comment of {at}", at=at)
        store.save_conversation("ann", f"c{at}", f"title of {at}", [{"content": f"words of {at}"}], at=at)
        store.save_batch("ann", batch(f"b{at}", status="completed", created_at=5, completed_at=at, metadata={"for": f"purpose of {at}"}))
        store.add_file("ann", f"f{at}", "out", "batch_output", f"answers of {at}".encode(), created_at=at)
        store.save_batch("ann", batch(f"running{at}", created_at=at))
    assert store.expire(before=20) == 4
    assert store.expire(before=20) == 0
    assert store.feedbacks("ann") == [Feedback("r30", 0.5, "comment of 30", 30), Feedback("r10", 0.5, None, 10)]
    assert [row.id for row in store.conversations("ann")] == ["c30"]
    assert {row.id for row in store.batches("ann")} == {"b30", "running10", "running30"}
    assert [row.id for row in store.files("ann")] == ["f30"]
    for words in (b"comment", b"title", b"words", b"purpose", b"answers"):
        assert [words + at in kept_bytes(url) for at in (b" of 10", b" of 30")] == [False, True], words


def test_no_table_with_texts_is_missed_when_a_key_is_forgotten(store: Store) -> None:
    figures = {"spend", "holds"}  # dollars and tokens by day: the budget goes on counting
    assert set(OWNED) - figures == {table.name for table in FORGOTTEN}
    fill(store, "ann")
    assert store.kept("ann") == dict.fromkeys(("feedback", "traces", "files", "batches", "conversations"), 1)
    assert store.kept("bob") == dict.fromkeys(("feedback", "traces", "files", "batches", "conversations"), 0)


# Processes and threads


def test_many_threads_and_a_second_process_write_without_a_lock_error(store: Store, url: str) -> None:
    other = subprocess.Popen([sys.executable, "-c", WRITER, url, "bob", "0.01"], stdout=subprocess.PIPE, cwd=ROOT)
    assert other.stdout is not None
    other.stdout.readline()  # it is writing

    def write(thread: int) -> None:
        for at in range(20):
            store.add_trace("ann", f"{thread}-{at}", {"at": at}, text=False)
            assert store.trace("ann", f"{thread}-{at}") is not None
            store.settle("ann", Spend(0.001, 1, 1, 1))

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(write, thread) for thread in range(16)]:
            done.result()
    assert other.poll() is None, "the other process was ended by an error"
    other.kill()
    other.communicate()
    assert len(store.traces("ann", limit=1000)) == 320
    assert store.spend("ann") == Spend(0.32, 320, 320, 320)
    assert store.spend("bob").requests > 0


def test_threads_of_one_process_wait_for_one_another_and_not_for_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.0)  # SQLite itself now waits for nobody
    with opened(url_of(path), "ann") as store, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: store.settle("ann", Spend(0.001, 1, 1, 1)), range(300)))
        assert store.spend("ann").requests == 300


def test_several_can_open_a_new_store_at_once(url: str) -> None:
    ready = threading.Barrier(8)

    def run(_: int) -> int:
        ready.wait()
        with Store(url) as store:
            return len(store.keys())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(8))) == [0] * 8


def test_opening_waits_while_somebody_else_makes_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    later = threading.Timer(0.3, other.close)
    later.start()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: connect(path, timeout=0))  # as SQLite does not always wait here
    with Store(url_of(path)) as store:
        assert store.keys() == []
    later.join()


WRITER = """
import sys
import time
from itertools import count
from serving.store import Store
from serving.tables import Spend
url, owner, pause = sys.argv[1:]
store = Store(url)
start = store.spend(owner).requests
for number in count(start):
    store.add_trace(owner, f"r{number}", {"words": "x" * 3000}, text=True)
    store.settle(owner, Spend(0.01, 2, 1, 1))
    print(number, flush=True)
    time.sleep(float(pause))
"""


@pytest.mark.slow
def test_a_killed_process_has_lost_nothing_that_it_acknowledged(url: str) -> None:
    opened(url, "ann").close()
    chance = random.Random(5)
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, url, "ann", "0"], stdout=subprocess.PIPE, cwd=ROOT)
        assert writer.stdout is not None
        said = [writer.stdout.readline()]
        time.sleep(chance.uniform(0, 0.3))
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.read().splitlines()
        writer.wait()
        writer.stdout.close()
        acknowledged = int(said[-1])
        with Store(url) as store:
            assert all(store.trace("ann", f"r{number}") is not None for number in range(acknowledged + 1))
            assert acknowledged + 1 <= store.spend("ann").requests <= acknowledged + 2  # the last may be done and not yet said
        if url.startswith("sqlite"):
            assert execute(url, "PRAGMA integrity_check") == [("ok",)]
    assert acknowledged > 5, "too little was written for this to tell anything"


def test_what_is_committed_is_flushed_to_the_disk(path: Path) -> None:
    with Store(url_of(path)) as store, store._reading() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert found == ["wal", 2, 1]


# Versions

NEWEST = max(int(path.stem.removeprefix("v")) for path in MIGRATIONS.glob("v*.py"))
NEXT = f"""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{NEWEST + 1}", "{NEWEST}"
def upgrade():
    with op.batch_alter_table("keys", recreate="always" if op.get_bind().dialect.name == "sqlite" else "never") as table:
        table.add_column(sa.Column("note", sa.String(20), nullable=False, server_default="-"))
    op.execute("UPDATE feedback SET score = 1 - score")
"""


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / f"v{NEWEST + 1}.py").write_text(NEXT)
    return folder


def test_the_version_before_is_migrated_with_all_that_it_holds(url: str, next_version: Path) -> None:
    with opened(url, "ann") as store:
        fill(store, "ann")
    for _ in range(2):  # the second time there is nothing to do
        with Store(url, migrations=next_version) as store:
            assert store.feedback("ann", "r1") == Feedback("r1", 0.5, "fair enough", 1)
            assert store.spend("ann") == Spend(0.25, 10, 5, 1)
            assert store.conversation("ann", "c1") is not None
            store.add_feedback("ann", "r1", 0.5, "fair enough", at=1)
            with pytest.raises(StoreError, match="no key has this id"):
                store.add_feedback("nobody", "r1", 0.5)
    assert execute(url, "SELECT id, note FROM keys") == [("ann", "-")]


def test_a_newer_version_is_refused_in_one_line_and_left_alone(url: str, next_version: Path) -> None:
    Store(url, migrations=next_version).close()
    before = kept_bytes(url)
    with pytest.raises(StoreError) as caught:
        Store(url)
    assert str(caught.value) == (
        f"the store {shown(url)} has version {NEWEST + 1}, and this Counterpoint knows versions up to {NEWEST}: "
        "upgrade counterpoint-server, or name another store"
    )
    assert kept_bytes(url) == before


def test_a_migration_that_fails_leaves_the_version_before(url: str, next_version: Path) -> None:
    with opened(url, "ann") as store:
        fill(store, "ann")
    (next_version / f"v{NEWEST + 1}.py").write_text(NEXT + "    op.execute('INSERT INTO absent VALUES (1)')\n")
    with pytest.raises(StoreError, match=r"no such table: absent|relation \"absent\" does not exist"):
        Store(url, migrations=next_version)
    with Store(url) as store:
        assert store.feedback("ann", "r1") == Feedback("r1", 0.5, "fair enough", 1)
        assert store.key("ann") is not None


def test_the_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store._reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


# Places


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "store.db"
    with opened(url_of(path), "ann"):
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes.keys() >= {"store.db", "store.db-wal"}
    assert set(modes.values()) == {0o600}


def test_what_is_no_store_is_refused(path: Path, tmp_path: Path) -> None:
    path.write_text("my diary, " * 200)
    with pytest.raises(StoreError, match=r"store\.db cannot be used: file is not a database"):
        Store(url_of(path))
    assert path.read_text() == "my diary, " * 200
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="is no store of Counterpoint: it has other tables, such as 'recipes'"):
        Store(url_of(other))
    with pytest.raises(StoreError, match="cannot be used: Is a directory"):
        Store(url_of(tmp_path))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("store.db", r"wanted a URL such as sqlite:///store\.db, not 'store\.db'"),
        ("mysql://me@host/db", "a store is kept by sqlite or postgresql, not 'mysql'"),
        ("sqlite://", "a store in memory would not last"),
        ("sqlite:///:memory:", "a store in memory would not last"),
    ],
)
def test_a_url_that_does_not_fit_is_named(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Store(url)


def test_errors_show_neither_a_password_nor_what_was_to_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError) as caught:
        store.add_key("ann", name="the secret name", salt=b"", digest=b"")
    cause: BaseException | None = caught.value
    while cause is not None:
        assert "the secret name" not in str(cause)
        cause = cause.__cause__

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(postgresql, "create_engine", unreachable)
    with pytest.raises(StoreError) as refused:
        Store("postgresql://me:sesame@far/db")
    assert str(refused.value) == "the store postgresql+psycopg://me:***@far/db cannot be used: no route to host"


def test_the_default_is_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert default_url() == "sqlite:////somewhere/counterpoint/store.db"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_url() == f"sqlite:///{os.path.expanduser('~')}/.local/share/counterpoint/store.db"
