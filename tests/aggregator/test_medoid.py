import numpy as np
import pytest

from aggregator import AggregatorError, make_aggregator
from aggregator.base import Nobody
from aggregator.checks import answers_of, question
from aggregator.medoid import Medoid, centrality
from data.records import Route

ROUTE = Route(("ann", "bob", "cid"), (0.8, 0.1, 0.1), "ann", {"ann": 0.8, "bob": 0.1, "cid": 0.1})
CAT, KITTEN, BANK = "The cat sat on the mat.", "A cat was sitting on a mat.", "Interest rates rose by two percent."


async def test_the_answer_that_is_most_like_the_others_is_given() -> None:
    answer = await Medoid().aggregate(question("What happened?"), answers_of(BANK, CAT, KITTEN), ROUTE, Nobody("medoid"))
    assert answer.text in (CAT, KITTEN)
    assert answer.support[-1][0] == BANK


async def test_the_others_count_by_their_weight_where_that_is_wanted() -> None:
    near = centrality(np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]]), np.array([0.1, 0.8, 0.1]))
    assert near.argmax() == 2  # the second has most weight, and only the third is like it
    assert np.allclose(near, [(0.8 * 0 + 0.1 * 0.8) / 0.9, (0.1 * 0.6) / 0.2, (0.1 * 0.8 + 0.8 * 0.6) / 0.9])


async def test_equals_are_decided_by_the_order_of_the_route() -> None:
    answer = await Medoid().aggregate(question(), answers_of(CAT, CAT, CAT), ROUTE, Nobody("medoid"))
    assert (answer.expert, answer.support) == ("ann", ((CAT, 1.0),))


def test_an_encoder_that_is_not_there_is_named() -> None:
    with pytest.raises(AggregatorError, match="the aggregator 'medoid': no encoder is called 'dice'"):
        make_aggregator("medoid", encoder="dice")
