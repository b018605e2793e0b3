import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors import SafetensorError

from data.artefact import inner, nested
from data.records import CounterpointError
from router import KNNRouter, RouterError, load_router
from router.artefact import read_artefact, write_artefact

HEAD = {"kind": "linear", "experts": ["\u6570\u5b66", "b\U0001f600"], "settings": {"penalty": None}, "state": {"number": 0.1 + 0.2}}
ARRAYS = {"coef": np.arange(6.0).reshape(2, 3), "mean": np.array([0.5, 0.25], dtype=np.float32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_artefact(tmp_path / "router", (HEAD, ARRAYS))
    return tmp_path / "router"


def refused(folder: Path) -> str:
    with pytest.raises(RouterError) as caught:
        read_artefact(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_what_was_written_is_read(folder: Path) -> None:
    head, arrays = read_artefact(folder)
    assert {name: head[name] for name in HEAD} == HEAD
    assert arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(arrays[name], array) and arrays[name].dtype == array.dtype for name, array in ARRAYS.items())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_arrays_of_any_kind_and_order_come_back(dtype: type[Any], tmp_path: Path) -> None:
    square = np.arange(12).reshape(3, 4).astype(dtype)
    given = {"turned": square.T, "part": square[::2, 1:3], "empty": square[:0], "number": square[0, 0:1].reshape(())}
    write_artefact(tmp_path, ({}, given))
    arrays = read_artefact(tmp_path)[1]
    assert all(np.array_equal(arrays[name], array) and arrays[name].dtype == dtype for name, array in given.items() if name != "number")
    assert arrays["number"].item() == given["number"].item()


def test_the_same_router_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_artefact(tmp_path / "again", (HEAD, dict(reversed(ARRAYS.items()))))
    for name in ("router.json", "weights.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_any_changed_byte_of_the_weights_is_refused(folder: Path) -> None:
    file = folder / "weights.safetensors"
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "is damaged" in refused(folder)


def test_any_changed_byte_of_the_json_is_refused_or_changes_nothing(folder: Path) -> None:
    file = folder / "router.json"
    whole, (head, _) = file.read_bytes(), read_artefact(folder)
    harmless = 0
    for at in range(len(whole)):
        for bit in (1, 32, 128):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            try:
                assert read_artefact(folder)[0] == head  # such as one blank that became another
                harmless += 1
            except CounterpointError:
                refused(folder)
    assert harmless < len(whole) / 10


@pytest.mark.parametrize("name", ["router.json", "weights.safetensors"])
def test_a_file_that_was_cut_is_refused(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for length in range(len(whole) - 1):  # without its last line end the JSON is whole
        (folder / name).write_bytes(whole[:length])
        refused(folder)


def test_the_arrays_of_another_router_are_refused(folder: Path, tmp_path: Path) -> None:
    write_artefact(tmp_path / "other", (HEAD, {"coef": np.zeros((2, 3))}))
    (folder / "weights.safetensors").write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    assert "its checksum is not the one in router.json" in refused(folder)


@pytest.mark.parametrize("name", ["router.json", "weights.safetensors"])
def test_a_missing_file_is_named_with_the_cure(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refused(folder) == f"no router in {folder}: {name} cannot be read; make one by `counterpoint router fit`"


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere").startswith(f"no router in {tmp_path}/nowhere: router.json cannot be read")


@pytest.mark.parametrize("version", [0, 3, "2", None, [2], {}])
def test_a_version_that_is_not_known_is_shown(folder: Path, version: object) -> None:
    head = json.loads((folder / "router.json").read_text(encoding="utf-8"))
    (folder / "router.json").write_text(json.dumps(head | {"version": version}), encoding="utf-8")
    assert f"has version {version}" in refused(folder)


@pytest.mark.parametrize("json_", ["[]", "null", '"router"', "1"])
def test_json_that_is_no_object_is_refused(folder: Path, json_: str) -> None:
    (folder / "router.json").write_text(json_, encoding="utf-8")
    assert "wanted an object" in refused(folder)


class Payload:
    """Writes a file where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_a_pickle_beside_the_artefact_is_not_read(score_table: pd.DataFrame, tmp_path: Path) -> None:
    router = KNNRouter().fit(score_table)
    router.save(tmp_path / "router")
    evil = pickle.dumps(Payload(tmp_path / "ran"))
    for name in ("router.pkl", "weights.pkl", "model.joblib", "pytorch_model.bin", "weights.npy"):
        (tmp_path / "router" / name).write_bytes(evil)
    np.testing.assert_array_equal(load_router(tmp_path / "router").scores(["a text"]), router.scores(["a text"]))
    assert not (tmp_path / "ran").exists()
    pickle.loads(evil)
    assert (tmp_path / "ran").exists()  # it would have


def test_a_pickle_in_place_of_the_weights_is_not_unpickled_even_with_its_checksum(folder: Path, tmp_path: Path) -> None:
    evil = pickle.dumps(Payload(tmp_path / "ran"))
    head = json.loads((folder / "router.json").read_text(encoding="utf-8"))
    rest = {name: value for name, value in head.items() if name != "sha256"}
    head["sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode() + evil).hexdigest()
    (folder / "weights.safetensors").write_bytes(evil)
    (folder / "router.json").write_text(json.dumps(head), encoding="utf-8")
    with pytest.raises((RouterError, SafetensorError)):
        read_artefact(folder)
    assert not (tmp_path / "ran").exists()


def test_writing_again_replaces_what_was_there(folder: Path) -> None:
    write_artefact(folder, (HEAD | {"experts": ["c"]}, {}))
    head, arrays = read_artefact(folder)
    assert (head["experts"], arrays) == (["c"], {})


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RouterError, match=f"cannot write the router to {tmp_path}/file/router: Not a directory"):
        write_artefact(tmp_path / "file" / "router", (HEAD, ARRAYS))


@pytest.mark.parametrize("setting", ["\ud800", np.int64(3), np.array([1.0])], ids=["half character", "integer", "array"])
def test_a_setting_that_json_cannot_hold_is_refused_in_one_line(tmp_path: Path, setting: object) -> None:
    try:
        write_artefact(tmp_path, (HEAD | {"settings": {"k": setting}}, ARRAYS))
    except CounterpointError:
        return
    read_artefact(tmp_path)


def test_a_router_inside_another_one_keeps_its_arrays_apart() -> None:
    first, second = nested("first", (HEAD, ARRAYS)), nested("second", ({}, {"coef": np.zeros(1)}))
    assert first[0] == HEAD
    both = first[1] | second[1] | {"coef": np.ones(1)}
    assert inner("first", both).keys() == ARRAYS.keys()
    assert all(inner("first", both)[name] is array for name, array in ARRAYS.items())
    assert inner("second", both)["coef"].tolist() == [0.0]
    assert inner("fir", both) == {}
