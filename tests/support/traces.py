"""Traceparents, and what must not pass for one."""

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"

HOSTILE: tuple[object, ...] = (
    "",
    GOOD + "\n",
    "\n" + GOOD,
    GOOD + "\r\nX-Evil: 1",
    GOOD.upper(),
    GOOD.replace("a", "A"),
    "ff" + GOOD[2:],
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    GOOD + "-00",
    "cc" + GOOD[2:] + "-more",
    GOOD[:-1],
    GOOD[:-3],
    "0" + GOOD,
    GOOD.replace("-", "_"),
    GOOD.replace("1", "\N{FULLWIDTH DIGIT ONE}"),
    GOOD.replace("1", "g"),
    "a" * 10_000,
    GOOD + "-" + "a" * 10_000,
    0,
    1.5,
    True,
    None,
    [GOOD],
    {"traceparent": GOOD},
)
"""What any broker can carry in a header and no worker passes on."""
