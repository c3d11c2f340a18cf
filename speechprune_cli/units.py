"""Numbers as people read them: times, shares, sizes, counts of operations."""

from __future__ import annotations

from math import log10


def clock(seconds: float) -> str:
    """A place in a recording: `mm:ss`, or `h:mm:ss` from an hour on."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def length(seconds: float) -> str:
    """Of a recording, exact below a minute: `45 s`, `7 min 30 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:g} s"
    if seconds < 3600:
        return _two(seconds, 60, "min", "s")
    return _two(seconds / 60, 60, "h", "min")


def duration(seconds: float) -> str:
    """How long something took: `850 µs`, `12 ms`, `3.4 s`, `2 min 05 s`."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else length(seconds)


def precise(seconds: float) -> str:
    """How long something took, in about three digits: `796 µs`, `8.51 ms`, `3.72 s`."""
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            value = seconds / scale
            return f"{value:,.{max(0, 2 - int(log10(value)))}f} {unit}"
    return "0 s"


def _two(amount: float, per: int, large: str, small: str) -> str:
    """In two units, the smaller one left out where it is nothing."""
    whole, rest = divmod(int(amount), per)
    return f"{whole} {large}" + (f" {rest:02} {small}" if rest else "")


def percent(share: float) -> str:
    """`62.5`."""
    return f"{100 * share:.1f}"


def interval(share: float, low: float, high: float) -> str:
    """A share and its interval in percent: `62.5 (55-69)`."""
    return f"{percent(share)} ({100 * low:.0f}-{100 * high:.0f})"


def probability(p: float) -> str:
    """Of a test: `0.012`, `<0.001`."""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def quantity(number: float) -> str:
    """Two significant digits below ten, one decimal above."""
    return f"{number:.1f}" if number >= 10 else f"{number:.2g}"


def amount(value: float) -> str:
    """Three significant digits below one, two decimals up to a thousand."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.2f}" if value >= 1 else f"{value:.3g}"


def factor(times: float) -> str:
    """`4.06x`."""
    return f"{times:.2f}x"


def parameters(count: int) -> str:
    """`8.4 B`, `25 M`."""
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"


def gigabytes(count: float) -> str:
    """Of bytes; decimal, as all memory in tables is."""
    return f"{count / 1e9:.2f}"
