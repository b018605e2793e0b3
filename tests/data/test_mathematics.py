import time
from pathlib import Path

import pytest

from data import mathematics
from data.graders import GraderError, grade, why_not
from data.mathematics import read_math, same_math
from data.records import CounterpointError


def test_a_comparison_that_never_ends_is_wrong_and_the_next_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics, "SECONDS", 1.0)
    assert not same_math("9^{9^{9^{9}}}", "3")
    assert same_math(r"\frac{2}{4}", r"\frac{1}{2}")


def test_an_answer_is_never_run_as_python(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for text in (f"__import__('os').mkdir('{trace}')", f"(lambda: open('{trace}','w'))()", rf"\text{{eval}}(open('{trace}','w'))"):
        assert not same_math(text, "3")
        assert not grade("math", f"\\boxed{{{text}}}", "x+3")
    assert not trace.exists()


def test_a_long_answer_is_compared_by_its_letters() -> None:
    long = "+".join(["x"] * 1000)
    assert same_math(long, long)
    assert not same_math(long, "1000x")


@pytest.mark.parametrize("piece", ["\\boxed{", "$", "\\(", "\\[x", "answer is ", "####", "{", "}", "$5 and "])
def test_a_text_of_100_000_characters_is_read_at_once(piece: str) -> None:
    began = time.process_time()
    read_math(piece * (100_000 // len(piece)))
    assert time.process_time() - began < 10


def test_without_the_library_the_grader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(mathematics, "_WORKER", mathematics._Worker())
    wanted = r"the grader math needs math_verify: pip install 'counterpoint-server\[benchmarks\]'"
    assert why_not("math") == wanted.replace("\\", "")
    with pytest.raises(CounterpointError, match=wanted):
        same_math(r"\frac{2}{4}", r"\sqrt{3}")


def test_code_and_pairs_are_refused_without_permission_or_judge() -> None:
    with pytest.raises(GraderError, match="runs programs that experts wrote: allow it"):
        grade("code", "print(1)", "{}")
    with pytest.raises(GraderError, match="needs a judge"):
        grade("pairwise", "hello", "hi")
