from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aggregator import AggregatorError
from aggregator.bandit import REMEMBERED, SEEN, Bandit
from aggregator.base import Nobody
from aggregator.checks import EXPERTS, ROUTE, answers_of, question
from data.records import Answer

TEXTS = ("Four.", "It is five.", "The result is six.", "7")
ASK = Nobody("bandit")


async def pick(bandit: Bandit, id: str) -> Answer:
    return await bandit.aggregate(replace(question(), id=id), answers_of(*TEXTS), ROUTE, ASK)


async def simulate(bandit: Bandit, turns: int, likes: dict[str, float]) -> float:
    rng, total = np.random.default_rng(0), 0.0
    for turn in range(turns):
        answer = await pick(bandit, str(turn))
        reward = float(rng.random() < likes[answer.expert])
        total += reward
        assert bandit.learn(str(turn), reward)
    return total


async def test_it_learns_what_a_user_likes_and_earns_more_than_chance_and_than_the_primary() -> None:
    likes = {"ann": 0.3, "bob": 0.2, "cid": 0.9, "dee": 0.4}
    earned = await simulate(Bandit(), 400, likes)
    assert earned > 400 * max(sum(likes.values()) / 4, likes["ann"]) + 100  # half of 60% is already 240
    assert earned > 0.8 * 400 * likes["cid"]


async def test_without_feedback_it_does_not_change() -> None:
    bandit = Bandit()
    first = await pick(bandit, "a")
    assert all([(await pick(bandit, str(turn))) == first for turn in range(5)])


async def test_feedback_counts_once_and_only_for_what_was_asked() -> None:
    bandit = Bandit()
    await pick(bandit, "a")
    assert (bandit.learn("a", 1.0), bandit.learn("a", 1.0), bandit.learn("b", 1.0)) == (True, False, False)


@pytest.mark.parametrize("reward", [-0.1, 1.1, float("nan")])
async def test_a_reward_out_of_range_is_refused(reward: float) -> None:
    bandit = Bandit()
    await pick(bandit, "a")
    with pytest.raises(AggregatorError, match="a reward lies from 0 to 1"):
        bandit.learn("a", reward)
    assert bandit.learn("a", 0.5)


async def test_reading_its_log_gives_the_same_state(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    bandit = Bandit(str(path))
    await simulate(bandit, 30, dict.fromkeys(EXPERTS, 0.5))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"request": "cut o')  # the machine went down here
    again = Bandit(str(path))
    assert again._experts == bandit._experts
    assert np.array_equal(again._inverse, bandit._inverse)
    assert np.array_equal(again._reward, bandit._reward)
    assert await pick(again, "x") == await pick(bandit, "x")


async def test_its_weights_are_those_of_ridge_regression() -> None:
    bandit = Bandit(ridge=2.0)
    rows, rewards = [], []
    for turn, reward in enumerate((1.0, 0.0, 1.0, 0.5)):
        answer = await pick(bandit, str(turn))
        _, seen = bandit._open[str(turn)]
        rows.append([*seen, *(float(answer.expert == name) for name in EXPERTS)])
        rewards.append(reward)
        bandit.learn(str(turn), reward)
    x = np.array(rows)[:, [*range(len(SEEN)), *(len(SEEN) + EXPERTS.index(name) for name in bandit._experts)]]
    wanted = np.linalg.solve(x.T @ x + 2.0 * np.eye(x.shape[1]), x.T @ np.array(rewards))
    assert np.allclose(bandit._inverse @ bandit._reward, wanted)


async def test_a_log_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(AggregatorError, match=r"its log .* cannot be read"):
        Bandit(str(tmp_path / "log"))


async def test_choices_that_never_get_feedback_are_forgotten_in_the_end() -> None:
    bandit = Bandit()
    for turn in range(REMEMBERED + 5):
        bandit._open[str(turn)] = ("ann", [0.0] * len(SEEN))
    await pick(bandit, "new")
    assert len(bandit._open) == REMEMBERED
    assert not bandit.learn("0", 1.0)
