"""What the semantic-router package adds to its encoder's time, for comparison in docs/routing.md.

It runs in an environment of its own: pip install semantic-router==1.1.1, then python benchmarks/semantic_router_speed.py
"""

from __future__ import annotations

import random
import statistics
import time
from typing import Any


def main() -> None:
    """Print the median of its own part: eight routes of twenty utterances, an encoder that takes no time, one question at a time."""
    from semantic_router import Route
    from semantic_router.encoders import DenseEncoder
    from semantic_router.routers import IndexedRouter

    draw = random.Random(0)

    class Instant(DenseEncoder):
        name: str = "instant"

        def __call__(self, docs: list[Any]) -> list[list[float]]:
            return [[draw.gauss(0, 1) for _ in range(256)] for _ in docs]

        async def acall(self, docs: list[Any]) -> list[list[float]]:
            return self(docs)

    encoder = Instant()
    routes = [Route(name=f"expert {e}", utterances=[f"utterance {e} {n}" for n in range(20)]) for e in range(8)]
    router = IndexedRouter(encoder, routes)
    encoding, deciding = [], []
    for number in range(600):
        begin = time.perf_counter()
        encoder([f"question {number}"])
        middle = time.perf_counter()
        choice = router(f"question {number}")
        end = time.perf_counter()
        assert choice is not None
        encoding.append(middle - begin)
        deciding.append(end - middle)
    own = statistics.median(deciding[50:]) - statistics.median(encoding[50:])
    print(f"{1000 * own:.3f} ms beside the encoder")


if __name__ == "__main__":
    main()
