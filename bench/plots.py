"""Plots as SVG, by hand: bars on a logarithmic scale, and lines over a logarithmic x. A few KB each."""

_WIDTH, _LEFT, _ROW, _TOP = 760, 210, 24, 44
_OURS, _THEIRS, _RANGE = "#1f77b4", "#9aa5b1", "#33414f"
_STYLE = (
    "<style>text{font:13px sans-serif;fill:#24292f}.t{font-weight:bold}"
    ".s{font-size:11px;fill:#57606a}</style>"
)
