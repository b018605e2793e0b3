"""Tables and charts of the pool, the router and the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.wording import seconds, size

if TYPE_CHECKING:
    from counterpoint import Difference, Pool, Route, Run
    from counterpoint.pool import Sample
    from counterpoint.routers import Profile, QuestionMap, Tried

MOST_SAMPLES = 300
"""Samples of the pool that a session keeps: ten minutes of them."""

COLOURS = ("#3b7dd8", "#d9822b", "#2f9e6e", "#b65fcf", "#c2404d", "#6b8e23", "#0f9bb3", "#8d6e63")
"""Colours of experts, told apart by those who see few colours too, on light and dark grounds."""

NOBODY = "nobody"


def newer(held: Sequence[Sample], came: Sequence[Sample]) -> tuple[Sample, ...]:
    """Add samples to those that are held, and let the oldest leave."""
    last = held[-1].at if held else float("-inf")
    return (*held, *(sample for sample in came if sample.at > last))[-MOST_SAMPLES:]


def slots_table(pool: Pool) -> list[dict[str, str]]:
    """One row for each engine in each slot."""
    rows = []
    for slot in pool.slots:
        held = [("loading" if one.loading else "ending" if one.ending else "awake", one) for one in slot.awake]
        for tier, engine in [*held, *(("asleep", one) for one in slot.asleep)]:
            row = {"Slot": slot.id, "Engine": engine.engine, "State": tier, "Serves": ", ".join(engine.experts)}
            rows.append(row | {"Memory": size(engine.bytes), "Running": str(engine.running), "For": seconds(engine.since_s)})
        if not held and not slot.asleep:
            rows.append({"Slot": slot.id, "Engine": "—", "State": "empty", "Serves": "", "Memory": size(0), "Running": "0", "For": "—"})
        if slot.next is not None:
            rows.append({"Slot": slot.id, "Engine": slot.next, "State": "next", "Serves": "", "Memory": "", "Running": "", "For": ""})
    return rows


def experts_table(pool: Pool) -> list[dict[str, Any]]:
    """One row for each expert."""
    loads = {name: engine for engine in pool.engines for name in engine.experts}
    return [
        {
            "Expert": name,
            "State": "broken" if state.broken else "loaded" if state.resident else "not loaded",
            "Waiting": state.waiting,
            "Oldest waits": seconds(state.oldest_wait_s if state.waiting else None),
            "Running": state.running,
            "Tokens/s": round(state.tokens_per_s, 1),
            "Tokens": state.tokens,
            "Answered": state.answered,
            "Failed": state.failures,
            "Wait, 95%": seconds(state.waits.p95_s),
            "Load": seconds(loads[name].load_s if name in loads else None),
            "Wake": seconds(loads[name].wake_s if name in loads else None),
        }
        for name, state in pool.experts.items()
    ]


def _data(rows: list[dict[str, Any]]) -> Any:
    import altair as alt

    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def over_time(samples: Sequence[Sample], what: str) -> Any:
    """Draw one figure of the last minutes: `waiting`, `tokens_per_s`, or `swaps`, which shows refusals too."""
    import altair as alt

    rows: list[dict[str, Any]] = []
    names = sorted({name for sample in samples for name in (*sample.waiting, *sample.tokens_per_s)})
    for sample in samples:
        told: Mapping[str, float] = (
            {"swaps": sample.swaps, "refused": sample.refused} if what == "swaps" else dict.fromkeys(names, 0) | getattr(sample, what)
        )
        rows += [{"time": sample.at * 1000, "which": name, "value": value} for name, value in told.items()]
    return (
        alt.Chart(_data(rows))
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("time:T", title=None),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(domainMin=0)),
            color=alt.Color("which:N", title=None, scale=alt.Scale(range=list(COLOURS)), legend=alt.Legend(orient="bottom")),
            tooltip=["which:N", "value:Q", "time:T"],
        )
    )


def question_map(drawn: QuestionMap, experts: Sequence[str], tried: Tried | None = None) -> Any:
    """Draw where the training questions lie, coloured by who did best, with a text that was tried as a cross."""
    import altair as alt

    rows = [
        {
            "x": point.x,
            "y": point.y,
            "best": point.best or NOBODY,
            "right": ", ".join(point.right) or NOBODY,
            "category": point.category or "",
            "text": (point.text or "")[:120],
            "size": point.questions,
        }
        for point in drawn.points
    ]
    names = [*experts, NOBODY]
    colours = [*(COLOURS[at % len(COLOURS)] for at in range(len(experts))), "#8a8f98"]
    dots = (
        alt.Chart(_data(rows))
        .mark_circle(opacity=0.75, size=45)
        .encode(
            x=alt.X("x:Q", axis=None),
            y=alt.Y("y:Q", axis=None),
            color=alt.Color("best:N", title="Best", scale=alt.Scale(domain=names, range=colours), legend=alt.Legend(orient="bottom")),
            tooltip=["best:N", "right:N", "category:N", "text:N"],
        )
    )
    if drawn.of == "clusters":
        dots = dots.encode(size=alt.Size("size:Q", title="Questions", legend=None))
    place = tried.place if tried is not None else None
    here = [{"x": place[0], "y": place[1], "text": "your text"}] if place is not None else []
    cross = (
        alt.Chart(_data(here))
        .mark_point(shape="cross", size=350, filled=True, color="#e0218a", stroke="white", strokeWidth=1.5)
        .encode(x="x:Q", y="y:Q", tooltip=["text:N"])
    )
    return alt.layer(dots, cross)


def heat_map(profile: Profile) -> Any:
    """Draw who is good at what, with the figure in each field."""
    import altair as alt

    rows = [
        {"kind": f"{row} ({profile.questions[at]})" if profile.questions else row, "expert": name, "quality": value}
        for at, row in enumerate(profile.rows)
        for name, value in zip(profile.experts, profile.quality[at], strict=True)
        if value is not None
    ]
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("expert:N", title=None, sort=list(profile.experts), axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("kind:N", title=None, sort=None, axis=alt.Axis(labelLimit=220)),
    )
    fields = base.mark_rect().encode(
        color=alt.Color("quality:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None),
        tooltip=["kind:N", "expert:N", alt.Tooltip("quality:Q", format=".2f")],
    )
    dark = "datum.quality > 0.55 ? 'white' : '#101217'"
    figures = base.mark_text().encode(text=alt.Text("quality:Q", format=".2f"), color=alt.Color(value=alt.expr(dark)))
    return alt.layer(fields, figures)


def scores_table(tried: Tried) -> list[dict[str, Any]]:
    """One row for each router, with its score of each expert."""
    return [{"Router": one.name + (" (baseline)" if one.baseline else ""), "Kind": one.kind, **one.scores} for one in tried.routers]


def nearest_table(tried: Tried) -> list[dict[str, Any]]:
    """The training questions next to the text."""
    return [
        {
            "Similarity": round(near.similarity, 3),
            "Question": near.point.text or "(no text kept)",
            "Right": ", ".join(near.point.right) or NOBODY,
            "Category": near.point.category or "",
        }
        for near in tried.nearest
    ]


def routes_table(routes: Mapping[float, Route]) -> list[dict[str, Any]]:
    """Who is chosen at each weight of an objective."""
    return [
        {"Weight": weight, "First": route.primary, "Asked": ", ".join(route.experts), "Score given up": round(route.regret, 3)}
        for weight, route in routes.items()
    ]


def systems_table(run: Run) -> list[dict[str, Any]]:
    """What each system reached in a run."""
    return [
        {
            "System": system.name,
            "Score": round(system.score, 3),
            "95% interval": f"{system.low:.3f} to {system.high:.3f}",
            "Calls": system.calls,
            "Tokens": system.tokens,
            "US dollars": system.usd,
        }
        for system in run.systems
    ]


def differences_table(found: Sequence[Difference], a: str, b: str) -> list[dict[str, Any]]:
    """How two runs differ, system by system."""
    return [
        {
            "System": one.system,
            "Questions": one.questions,
            a: round(one.a, 3),
            b: round(one.b, 3),
            "Difference": round(one.difference, 3),
            "95% interval": f"{one.low:+.3f} to {one.high:+.3f}",
            "Verdict": "a tie" if one.tie else f"{a} is better" if one.difference > 0 else f"{b} is better",
        }
        for one in found
    ]
