"""The parts of the page that show how an answer comes about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from app.harmless import harmless, label, pieces, plain
from app.marking import marked
from app.trouble import Trouble
from app.wording import residency, spent, waiting
from counterpoint import ExpertAnswer, Explanation, Pool, Route

TABS_HEIGHT = 190
"""Pixels of the experts' answers while they come, so that nothing below them moves."""


def show_text(text: str) -> None:
    """Show what somebody wrote: prose as Markdown with formulas, code to the letter."""
    for piece in pieces(text):
        if piece.code:
            st.code(piece.text, language=None, wrap_lines=True)  # Streamlit's colours of code are too weak on a light ground
        else:
            st.markdown(harmless(piece.text), anchors=False)


def show_route(route: Route, pool: Pool | None = None) -> None:
    """Show who is asked and why, with the scores as bars."""
    chosen = dict(zip(route.experts, route.weights, strict=True))
    st.markdown("Asked: " + ", ".join(f"**{plain(name)}**" for name in chosen))
    alike = not route.reasons and len(route.scores) > 1 and len({*route.scores.values()}) == 1
    for name, score in sorted(route.scores.items(), key=lambda pair: (pair[0] not in chosen, -pair[1])):
        likely = "counts like every other" if alike else f"{score:.0%} likely to be right"
        part = f", weight {chosen[name]:.2f}" if len(chosen) > 1 and name in chosen else ""
        more = "".join(f" · {word}" for word in (residency(name, pool), "" if name in chosen else "not asked") if word)
        st.progress(min(max(score, 0.0), 1.0), text=f"{plain(name)}: {likely}{part}{more}")
    if route.reserve:
        st.caption(f"In reserve: {', '.join(plain(name) for name in route.reserve)}")
    if route.regret > 0.005:
        st.caption(f"{route.regret:.0%} likelihood was given up for the price, or for who is at hand")
    if route.reasons:
        st.caption("What spoke for it")
        st.text("\n".join(route.reasons))


def show_answers(names: Sequence[str], answers: Sequence[ExpertAnswer], final: str, pool: Pool | None = None, live: bool = False) -> None:
    """Show each answer of an expert in a tab of its own, with what differs from the final answer marked."""
    order = by_expert(names, answers)
    if not order:
        return
    tabs = st.tabs([label(title, 30) for title, _, _ in order], height=TABS_HEIGHT if live else "content")
    for tab, (_, name, answer) in zip(tabs, order, strict=True):
        with tab:
            if answer is None:
                st.caption(waiting(name, pool) if live else "did not answer")
            elif answer.error:
                st.error("Failed: this expert gave no answer", icon=":material/error:")
                st.text(answer.error)
            else:
                _show_answer(answer, final)


def by_expert(names: Sequence[str], answers: Sequence[ExpertAnswer]) -> list[tuple[str, str, ExpertAnswer | None]]:
    """Put answers to those who were asked, in their order; several of one expert are numbered.

    Returns:
        A title, the expert and its answer, where it has come, for each that was asked, and for those that came unasked.

    Example:
        >>> came = [ExpertAnswer("b", "4"), ExpertAnswer("a", "5"), ExpertAnswer("c", "6")]
        >>> [(title, answer and answer.text) for title, _, answer in by_expert(["a", "a", "b"], came)]
        [('a 1', '5'), ('a 2', None), ('b', '4'), ('c', '6')]
    """
    left = {name: [answer for answer in answers if answer.expert == name] for name in (answer.expert for answer in answers)}
    order = [*names, *(Counter(answer.expert for answer in answers) - Counter(names)).elements()]
    seen: Counter[str] = Counter()
    found: list[tuple[str, str, ExpertAnswer | None]] = []
    for name in order:
        seen[name] += 1
        title = f"{name} {seen[name]}" if order.count(name) > 1 else name
        found.append((title, name, left[name].pop(0) if left.get(name) else None))
    return found


def _show_answer(answer: ExpertAnswer, final: str) -> None:
    apart = marked(answer.text, final) if final and answer.text else None
    st.caption(f"{answer.latency_s:.1f} s" + (" · what differs from the answer is marked" if apart else ""))
    if apart:
        st.markdown(apart, anchors=False)
    elif answer.text:
        show_text(answer.text)
    else:
        st.caption("(no words, or texts are not kept)")


def show_outcome(account: Explanation) -> None:
    """Show what the aggregator weighed, and what it took."""
    if account.support:
        st.caption(f"What the aggregator ({plain(account.aggregator)}) weighed")
        heaviest = max((weight for _, weight in account.support), default=0.0) or 1.0
        for text, weight in account.support[:8]:
            st.progress(min(max(weight / heaviest, 0.0), 1.0), text=f"{weight:.2f} · {label(text, 90) or 'an answer'}")
    else:
        st.caption(f"Combined by {plain(account.aggregator)}")
    for failed, other in account.instead:
        st.caption(f"{plain(failed)} failed; {plain(other)} was asked in its place")
    st.caption(spent(account))


def show_degraded(account: Explanation) -> None:
    """Say it where an expert failed and the others answered without it."""
    if account.degraded:
        failed = [answer.expert for answer in account.answers if answer.error]
        who = ", ".join(plain(name) for name in failed) or "An expert"
        st.warning(f"{who} failed; the answer was made without.", icon=":material/warning:")


def show_account(account: Explanation, final: str, pool: Pool | None = None) -> None:
    """Show the whole account of an answer."""
    show_route(account.route, pool)
    show_answers(account.route.experts, account.answers, final)
    show_outcome(account)


def show_trouble(trouble: Trouble) -> None:
    """Show what went wrong and what to do; the endpoint's own words as plain text."""
    with st.container(border=True):
        st.error(f"**{plain(trouble.title)}.** {trouble.advice}", icon=":material/error:")
        st.text(trouble.detail[:2000])
