"""Figures in words."""

from __future__ import annotations

from counterpoint import Explanation, Pool


def residency(name: str, pool: Pool | None) -> str:
    """Say whether an expert is loaded, or empty where that is not known."""
    if pool is None or (state := pool.experts.get(name)) is None:
        return ""
    if state.broken:
        return "broken"
    return "loaded" if state.resident else f"must be loaded{_about(load_s(name, pool))}"


def load_s(name: str, pool: Pool) -> float | None:
    """Seconds that bringing an expert's engine takes, by what was measured; None where nothing was."""
    for engine in pool.engines:
        if name in engine.experts:
            asleep = any(held.engine == engine.engine for slot in pool.slots for held in slot.asleep)
            return engine.wake_s if asleep and engine.wake_s is not None else engine.load_s
    return None


def waiting(name: str, pool: Pool | None) -> str:
    """Say what an expert that has not answered yet is about."""
    state = pool.experts.get(name) if pool is not None else None
    if pool is None or state is None:
        return "asked; no answer yet"
    if state.broken:
        return "broken: its calls fail at once"
    if not state.resident:
        return f"is being loaded, or waits for a slot{_about(load_s(name, pool))}; {_calls(state.waiting)}"
    if state.waiting and not state.running:
        return f"waits; {_calls(state.waiting)}, the oldest for {state.oldest_wait_s:.0f} s"
    return f"writes{f', at {state.tokens_per_s:.0f} tokens/s lately' if state.tokens_per_s else ''}"


def _calls(number: int) -> str:
    return f"{number} call{'' if number == 1 else 's'} in its queue"


def _about(seconds: float | None) -> str:
    return "" if seconds is None else f" (about {seconds:.0f} s)"


def spent(account: Explanation) -> str:
    """Say what an answer took."""
    calls = account.calls or len(account.answers)
    return f"{calls} call{'' if calls == 1 else 's'} · {dollars(account.cost_usd)}"


def dollars(amount: float) -> str:
    r"""Write an amount.

    Example:
        >>> dollars(0), dollars(0.00012), dollars(3.5)
        ('free', 'US\\$ 0.00012', 'US\\$ 3.50')
    """
    if not amount:
        return "free"
    return f"US\\$ {amount:.2f}" if amount >= 1 else f"US\\$ {amount:.2g}"


def size(number: float | None) -> str:
    """Write bytes.

    Example:
        >>> size(None), size(512), size(3 * 2**30)
        ('unknown', '512 B', '3.0 GiB')
    """
    if number is None:
        return "unknown"
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def seconds(number: float | None) -> str:
    """Write seconds.

    Example:
        >>> seconds(None), seconds(0.25), seconds(12.34)
        ('—', '0.25 s', '12.3 s')
    """
    return "—" if number is None else f"{number:.2f} s" if number < 10 else f"{number:.1f} s"
