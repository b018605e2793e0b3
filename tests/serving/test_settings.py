import pytest

from data.records import CounterpointError
from serving.settings import fitting

KNOWN = {"expert": str | None, "rounds": int, "rate": float, "names": list[str]}


def test_settings_come_back_each_of_its_type() -> None:
    given = {"expert": None, "rounds": "3", "rate": 1, "names": ["a"]}
    made = fitting("it", KNOWN, given)
    assert made == {"expert": None, "rounds": 3, "rate": 1.0, "names": ["a"]}
    assert isinstance(made["rate"], float)
    assert fitting("it", KNOWN, {}) == {}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"round": 3}, "the vote has no setting 'round'; did you mean rounds?"),
        ({"zzz": 3}, "the vote has no setting 'zzz'; it has expert, rounds, rate, names"),
        ({"rounds": "many"}, "--set rounds: Input should be a valid integer, unable to parse string as an integer, not 'many'"),
        ({"rounds": 1.5}, "--set rounds: Input should be a valid integer, got a number with a fractional part, not 1.5"),
        ({"names": "a"}, "--set names: Input should be a valid list, not 'a'"),
        ({"rate": float("nan")}, "--set rate: wanted a number, not nan"),
        ({"rate": float("-inf")}, "--set rate: wanted a number, not -inf"),
        ({"rate": "nan"}, "--set rate: wanted a number, not nan"),
    ],
)
def test_what_does_not_fit_is_one_line(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(CounterpointError) as caught:
        fitting("the vote", KNOWN, given, "--set ")
    assert str(caught.value) == sentence


def test_what_takes_no_settings_says_so() -> None:
    with pytest.raises(CounterpointError, match="the vote has no setting 'loud'; it has none"):
        fitting("the vote", {}, {"loud": True})
