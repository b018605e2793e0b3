"""Files of the last release are read, converted, and refused where they must be; `write.py` made them."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from aggregator.artefact import COMBINER
from aggregator.pooling import PoolWeights
from data.artefact import Parts, read_artefact
from data.records import CounterpointError
from data.scores import TABLE, ScoreTableError, read_ratings, read_scores, write_scores
from data.versions import Format
from router import load_router
from router.artefact import ROUTER
from serving import cli, database
from serving.config import CONFIG, load_config
from serving.database import MIGRATIONS, copy_sqlite, versions_of
from serving.migrate import Item, migrate
from serving.store import Store
from serving.tables import Spend

ROOT = Path(__file__).parents[2]
RELEASE = Path(__file__).parent / "0.1"
EXPECTED = json.loads((RELEASE / "expected.json").read_text(encoding="utf-8"))
QUERIES = list(dict.fromkeys(row["query"] for row in EXPECTED["table"]))
STORE = max(int(path.stem.removeprefix("v")) for path in MIGRATIONS.glob("v*.py"))
"""The newest version of stores; the release's own is 1."""
TABLES = ("scores.parquet", "scores.jsonl", "scores.csv")

ADD_NOTE = """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "{new}", "{old}"
def upgrade():
    op.add_column("keys", sa.Column("note{new}", sa.String(20), nullable=False, server_default="-"))
"""


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the last release wrote, as the current folder."""
    folder = tmp_path / "mix"
    shutil.copytree(RELEASE, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["counterpoint", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        return code, *capfd.readouterr()

    return call


def config_step(raw: dict[str, Any]) -> dict[str, Any]:
    """One slot more than before."""
    pool = dict(raw.get("pool") or {})
    return raw | {"pool": pool | {"slots": pool.get("slots", 1) + 1}}


def parts_step(parts: Parts) -> Parts:
    """One array more: both files of an artefact change, and nothing that it gives."""
    head, arrays = parts
    return head | {"converted": head.get("converted", 0) + 1}, arrays | {f"extra{len(arrays)}": np.ones(3)}


def table_step(table: pd.DataFrame) -> pd.DataFrame:
    """Another column."""
    return table.assign(**{f"extra{len(table.columns)}": "x"})


STEPS: list[tuple[Format[Any], Callable[[Any], Any]]] = [
    (CONFIG, config_step),
    (ROUTER, parts_step),
    (COMBINER, parts_step),
    (TABLE, table_step),
]


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Calling it makes the program one version newer in everything."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    made = 0

    def newer() -> None:
        nonlocal made
        made += 1
        for form, step in STEPS:
            form.step(step)
        old = max(int(path.stem.removeprefix("v")) for path in folder.glob("v*.py"))
        (folder / f"v{old + 1}.py").write_text(ADD_NOTE.format(new=old + 1, old=old), encoding="utf-8")
        monkeypatch.setattr(database, "MIGRATIONS", folder)

    yield newer
    for form, _ in STEPS:
        del form.steps[len(form.steps) - made :]


def shot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def works(folder: Path) -> None:
    """All that the last release wrote says what that release read."""
    config = load_config(folder / "mixture.yaml")
    assert (config.name, [expert.name for expert in config.experts], config.serving.keys) == ("mix", ["sums", "words"], True)
    for name in ("router", "router-1"):
        np.testing.assert_allclose(load_router(folder / name).scores(QUERIES), EXPECTED[name], rtol=0, atol=1e-12)
    assert dict(PoolWeights.load(folder / "combiner").weights) == EXPECTED["combiner"]
    for name in TABLES:
        table = read_scores(folder / name)
        assert table[list(EXPECTED["table"][0])].to_dict("records") == EXPECTED["table"]
    with Store(f"sqlite:///{folder / 'store.db'}", migrations=database.MIGRATIONS) as store:
        key, trace, batch, conversation = store.key("k1"), store.trace("k1", "r1"), store.batch("k1", "b1"), store.conversation("k1", "c1")
        assert key is not None
        assert (key["name"], key["budget_usd"], key["allowed_experts"], key["salt"]) == ("reports", 5.0, ["sums"], b"salt")
        assert (store.spend("k1"), store.held("k1"), store.file_content("k1", "f1")) == (Spend(0.25, 10, 5, 1), 0.5, b"{}\n")
        assert (trace and trace.body, batch and batch.metadata) == ({"question": "asked"}, {"for": "me"})
        assert conversation is not None
        assert conversation.messages == [{"role": "user", "content": "Hello"}]


def did(items: list[Item]) -> dict[str, str]:
    return {Path(item.path).name: item.did for item in items}


EVERYTHING = ("mixture.yaml", "router", "scores.jsonl", "scores.csv")
"""The mixture brings along its router, combiner, table and store."""


# The last release


def test_files_of_the_last_release_are_read_as_they_are(release: Path) -> None:
    works(release)


def test_the_mixture_brings_along_what_it_names_and_only_what_is_old_is_touched(release: Path) -> None:
    before = shot(release)
    done = did(migrate(["mixture.yaml"]))
    store = "current" if STORE == 1 else "converted"
    assert done == {
        "mixture.yaml": "current", "router-1": "converted", "combiner": "current", "scores.parquet": "current", "store.db": store
    }  # fmt: skip
    after = shot(release)
    assert {name for name in after if after[name] != before.get(name) and not name.startswith("store.db")} == {
        "router-1/router.json", "router-1.v1.bak/router.json", "router-1.v1.bak/weights.safetensors"
    }  # fmt: skip
    assert {name: after[f"router-1.v1.bak/{name}"] for name in ("router.json", "weights.safetensors")} == {
        name: before[f"router-1/{name}"] for name in ("router.json", "weights.safetensors")
    }
    assert json.loads(after["router-1/router.json"])["version"] == 2
    works(release)


def test_a_converted_router_scores_as_the_old_one_to_the_last_bit(release: Path) -> None:
    old = load_router(release / "router-1").scores(QUERIES)
    migrate(["router-1"])
    assert load_router(release / "router-1").scores(QUERIES).tobytes() == old.tobytes()


# The next release


def test_the_next_release_reads_what_this_one_wrote(release: Path, next_release: Callable[[], None]) -> None:
    migrate(["router-1", "store.db"])  # to what this release writes
    next_release()
    works(release)
    assert load_config(release / "mixture.yaml").pool.slots == 2
    assert "extra10" in read_scores(release / "scores.csv").columns


@pytest.mark.parametrize("releases", [1, 2])
def test_everything_is_converted_with_a_copy_beside_it_and_the_second_time_nothing(
    release: Path, next_release: Callable[[], None], releases: int
) -> None:
    before = shot(release)
    for _ in range(releases):
        next_release()
    items = migrate(EVERYTHING)
    assert set(did(items).values()) == {"converted"}
    assert len(items) == 8
    works(release)
    for item in items:
        assert item.backup is not None
        if Path(item.backup).is_file() and item.kind != "store":
            name = Path(item.backup).name.removesuffix(f".v{item.found}.bak")
            assert Path(item.backup).read_bytes() == before[name]
    assert load_config(release / "mixture.yaml").pool.slots == 1 + releases
    assert versions_of(f"sqlite:///{release / 'store.db'}", database.MIGRATIONS) == (str(STORE + releases),) * 2
    done = shot(release)
    assert set(did(migrate(EVERYTHING)).values()) == {"current"}
    assert shot(release) == done


def test_the_copy_of_a_store_is_a_store_of_the_version_before(release: Path, next_release: Callable[[], None]) -> None:
    next_release()
    (item,) = migrate(["store.db"])
    assert item.backup == str(release / "store.db.v1.bak")
    assert Path(item.backup).stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(item.backup) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("1",)]
        assert connection.execute("SELECT name FROM keys").fetchall() == [("reports",)]
    connection.close()


def test_comments_and_order_of_a_config_stay(release: Path, next_release: Callable[[], None]) -> None:
    next_release()
    migrate(["mixture.yaml"])
    old = (RELEASE / "mixture.yaml").read_text(encoding="utf-8")
    assert Path("mixture.yaml").read_text(encoding="utf-8") == old.replace("version: 1", "version: 2") + "pool:\n  slots: 2\n"


def test_a_dry_run_says_the_same_and_changes_nothing(release: Path, next_release: Callable[[], None]) -> None:
    next_release()
    before = shot(release)
    items = migrate(EVERYTHING, dry_run=True)
    assert set(did(items).values()) == {"would be converted"}
    assert shot(release) == before
    again = migrate(EVERYTHING)
    assert [(item.kind, item.path, item.found, item.newest) for item in again] == [
        (item.kind, item.path, item.found, item.newest) for item in items
    ]


def test_no_copy_is_kept_where_none_is_wanted_and_none_is_ever_overwritten(release: Path, next_release: Callable[[], None]) -> None:
    next_release()
    (release / "scores.csv.v1.bak").write_text("mine", encoding="utf-8")
    migrate(["scores.csv"])
    assert (release / "scores.csv.v1.bak").read_text(encoding="utf-8") == "mine"
    assert (release / "scores.csv.v1.bak.2").read_bytes() == (RELEASE / "scores.csv").read_bytes()
    migrate(["router-1", "scores.jsonl", "store.db"], backup=False)
    assert [path.name for path in release.glob("*.bak*")] in (
        ["scores.csv.v1.bak", "scores.csv.v1.bak.2"],
        ["scores.csv.v1.bak.2", "scores.csv.v1.bak"],
    )


READERS: dict[str, Callable[[], object]] = {
    "mixture.yaml": lambda: load_config(Path("mixture.yaml")),
    "router": lambda: load_router(Path("router")),
    "combiner": lambda: PoolWeights.load(Path("combiner")),
    "scores.parquet": lambda: read_scores(Path("scores.parquet")),
    "scores.jsonl": lambda: read_ratings(Path("scores.jsonl")),
    "scores.csv": lambda: read_scores(Path("scores.csv")),
    "store.db": lambda: Store("sqlite:///store.db", migrations=database.MIGRATIONS).close(),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_too_old_is_refused_in_one_line_with_the_command_that_converts_it(
    release: Path, next_release: Callable[[], None], name: str
) -> None:
    next_release()
    next_release()
    with pytest.raises(CounterpointError) as caught:
        READERS[name]()
    assert "\n" not in str(caught.value)
    command = re.search(r"convert it by `counterpoint migrate (\S+)`$", str(caught.value))
    assert command is not None, str(caught.value)
    assert did(migrate([command[1]]))[name] == "converted"
    READERS[name]()


def newer(folder: Path) -> None:
    """Let everything look as if a later program had written it."""
    (folder / "mixture.yaml").write_text((folder / "mixture.yaml").read_text().replace("version: 1", "version: 99"))
    for what in ("router", "combiner"):
        path = folder / what / f"{what}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    table = read_scores(folder / "scores.csv")
    TABLE.steps.extend([lambda table: table] * 98)
    try:
        for name in TABLES:
            write_scores(table, folder / name)
    finally:
        del TABLE.steps[-98:]
    with sqlite3.connect(folder / "store.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '99'")
    connection.close()


@pytest.mark.parametrize("name", READERS)
def test_what_is_too_new_is_refused_in_one_line_that_says_to_upgrade_and_is_left_alone(release: Path, name: str) -> None:
    newer(release)
    before = shot(release)
    with pytest.raises(CounterpointError, match=r"^[^\n]* has version 99, and this Counterpoint \w+[^\n]* up to \d+: upgrade [^\n]*$"):
        READERS[name]()
    (item,) = migrate([name])
    assert (item.did, item.found) == ("refused", None)
    assert item.error is not None
    assert "has version 99" in item.error
    assert shot(release) == before


# Crashes

CRASH = """
import os, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
import test_migrations as tests
from serving import database
name, database.MIGRATIONS, folders = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
for form, step in tests.STEPS:
    form.step(step)
left = 0

def counted(call):
    def wrapped(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os._exit(9)  # as a kill -9: nothing is cleaned up
        return call(*arguments, **options)
    return wrapped

fork, wait = os.fork, os.waitpid
for step in ("replace", "rename", "fsync", "unlink", "open"):
    setattr(os, step, counted(getattr(os, step)))
for left, folder in enumerate(folders, start=1):
    if (child := fork()) == 0:
        os.chdir(folder)
        done = [item.did for item in tests.migrate([name])]
        os._exit(0 if done == ["converted"] else 1)
    code = os.waitstatus_to_exitcode(wait(child, 0)[1])
    print(code, flush=True)
    if code == 0:  # it had no more steps
        break
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixture.yaml", "router", "scores.parquet", "store.db"])
def test_a_crash_at_any_step_leaves_the_old_or_the_new_and_running_again_finishes(
    release: Path, next_release: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "mixture.yaml":  # alone, without what it names
        (release / name).write_text("version: 1\nname: mix\n")
    if name == "store.db":  # to what this release writes
        migrate([name], backup=False)
    next_release()
    folders = [tmp_path / f"try{at}" for at in range(1, 30)]
    for folder in folders:
        shutil.copytree(release, folder)
    script = CRASH.format(tests=str(Path(__file__).parent), root=str(ROOT))
    command = [sys.executable, "-c", script, name, str(database.MIGRATIONS), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    codes = [int(code) for code in done.stdout.split()]
    assert codes == [9] * (len(codes) - 1) + [0], done.stderr
    assert len(codes) > 4, "it has steps"

    def content() -> Any:
        if name == "mixture.yaml":
            return yaml.safe_load(Path(name).read_text())["version"]
        if name == "router":
            return read_artefact(Path(name), ROUTER)[0]["version"], load_router(Path(name)).scores(QUERIES).tolist()
        if name == "store.db":
            with Store(f"sqlite:///{name}", migrations=database.MIGRATIONS) as store:
                return store.key("k1") is not None, store.spend("k1"), store.trace("k1", "r1")
        return [list(read_scores(Path(name)).columns), read_scores(Path(name))["score"].tolist()]

    wanted: set[str] = set()
    for folder in folders[: len(codes)]:
        monkeypatch.chdir(folder)
        wanted.add(str(content()))
        migrate([name])
        assert did(migrate([name]))[name] == "current"
        wanted.add(str(content()))
    assert len(wanted) <= 2, wanted


def test_permissions_stay_and_no_file_of_arrays_is_left_over(release: Path, next_release: Callable[[], None]) -> None:
    (release / "router" / "weights-0123456789ab.safetensors").write_bytes(b"left by a crash")
    for path in ("mixture.yaml", "scores.csv", "router/router.json", "router/weights.safetensors"):
        (release / path).chmod(0o600)
    next_release()
    migrate(["router", "scores.csv", "mixture.yaml"])
    files = [*(release / "router").iterdir(), release / "scores.csv", release / "mixture.yaml", *release.glob("scores.csv.*")]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    head = json.loads((release / "router" / "router.json").read_text())
    assert sorted(path.name for path in (release / "router").iterdir()) == ["router.json", head["weights"]]
    router = load_router(release / "router")
    router.save(release / "router")
    assert sorted(path.name for path in (release / "router").iterdir()) == ["router.json", "weights.safetensors"]
    assert load_router(release / "router").scores(QUERIES).tobytes() == router.scores(QUERIES).tobytes()


# The command


def test_the_command_says_what_it_did_and_ends_in_2_where_something_is_refused(
    release: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = run("migrate", "-c", "mixture.yaml", "--dry-run")
    assert (code, err) == (0, "")
    assert f"router {release}/router-1: version 1 to 2, would be converted" in out.splitlines()
    code, out, err = run("migrate", "router-1", "nowhere", "expected.json")
    assert code == 2
    assert out == f"router router-1: version 1 to 2, converted; as it was: {release}/router-1.v1.bak\n"
    assert err.splitlines() == [
        "counterpoint: nowhere: refused: nothing is there",
        "counterpoint: expected.json: refused: it carries no version: wanted a mixture's YAML, a router's or combiner's folder, "
        "a score table, or a store",
    ]
    code, out, _ = run("migrate", "router-1", "scores.csv", "--json")
    assert [(item["kind"], item["did"], item["newest"]) for item in json.loads(out)] == [
        ("router", "current", 2),
        ("score table", "current", 1),
    ]
    assert run("migrate")[0] == 2


def test_damage_is_told_and_nothing_is_converted(release: Path) -> None:
    text = (release / "router-1" / "router.json").read_text(encoding="utf-8")
    (release / "router-1" / "router.json").write_text(text.replace('"prior": 0.5', '"prior": 5.0'), encoding="utf-8")
    (release / "store.db").write_bytes(b"SQLite format 3\0" + b"x" * 200)
    before = shot(release)
    items = migrate(["router-1", "store.db"])
    assert [item.did for item in items] == ["refused", "refused"]
    assert "is damaged" in str(items[0].error)
    assert shot(release) == before


def test_a_conversion_that_does_not_fit_is_one_line(release: Path) -> None:
    CONFIG.step(lambda raw: raw | {"name": raw["nobody"]})
    try:
        with pytest.raises(CounterpointError, match=r"cannot be converted from version 1 to 2: KeyError: 'nobody'"):
            load_config(release / "mixture.yaml")
    finally:
        CONFIG.steps.pop()


def test_the_password_of_a_store_is_not_shown() -> None:
    (item,) = migrate(["postgresql://me:sesame@127.0.0.1:1/db"])
    assert item.did == "refused"
    assert "sesame" not in item.line() + json.dumps(item.json())


# Score tables


def test_a_table_has_its_version_in_parquets_metadata_and_none_in_text(release: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    table = read_scores(release / "scores.csv")
    for name in TABLES:
        write_scores(table, tmp_path / name)
        pd.testing.assert_frame_equal(read_scores(tmp_path / name), read_scores(release / name))
    assert pyarrow.parquet.read_schema(tmp_path / "scores.parquet").metadata[b"counterpoint_version"] == b"1"
    for name in TABLES[1:]:
        assert (tmp_path / name).read_bytes() == (release / name).read_bytes()


@pytest.mark.parametrize("name", TABLES)
def test_a_tables_own_version_is_no_column_of_it(release: Path, next_release: Callable[[], None], name: str) -> None:
    next_release()
    migrate([name])
    assert "counterpoint_version" not in read_scores(release / name).columns


def test_rows_of_several_versions_are_refused(release: Path) -> None:
    rows = [json.loads(line) for line in (release / "scores.jsonl").read_text().splitlines()]
    rows[3]["counterpoint_version"] = 2
    rows[4]["counterpoint_version"] = "one"
    (release / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ScoreTableError, match="has rows of several versions: "):
        read_scores(release / "scores.jsonl")


def test_a_copy_of_a_store_that_fails_leaves_nothing(release: Path) -> None:
    (release / "broken.db").write_bytes(b"x" * 5000)
    with pytest.raises(sqlite3.DatabaseError):
        copy_sqlite(release / "broken.db", release / "copy.db")
    assert not list(release.glob("*copy.db*"))
