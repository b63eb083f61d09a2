"""How the report looks: what is drawn in the colours of light is turned over where the reader's system is
dark.
"""

from pipeline.svgplot import GREY, INK

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
COLOURS = (
    "#2563eb", "#ea580c", "#16a34a", "#9333ea", "#64748b", "#db2777", "#0891b2", "#ca8a04", "#dc2626",
    "#4d7c0f",
)  # fmt: skip
"""Readable on white and on dark."""

STYLE = (
    ":root{--page:#fff;--ink:#1e293b;--line:#e2e8f0;--soft:#f1f5f9;color-scheme:light dark}"
    "@media(prefers-color-scheme:dark){:root{--page:#0f172a;--ink:#e2e8f0;--line:#334155;--soft:#1e293b}"
    f'svg rect[fill="#fff"]{{fill:#0f172a}}svg text[fill="{INK}"]{{fill:#cbd5e1}}'
    f'svg line[stroke="{GREY}"]{{stroke:#334155}}}}'
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1000px;padding:0 1rem;"
    "background:var(--page);color:var(--ink)}"
    "h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid var(--line);padding-bottom:.3rem}"
    "h3{margin:1.6rem 0 .4rem}svg{display:block;max-width:100%;height:auto;margin:.8rem 0}"
    "table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}"
    ".wide{overflow-x:auto}th,td{padding:3px 12px 3px 0;border-bottom:1px solid var(--line);text-align:right;"
    "vertical-align:top}th:first-child,td:first-child{text-align:left}"
    ".facts td,.remarked td:last-child,.remarked th:last-child{text-align:left}"
    "pre{background:var(--soft);padding:.6rem .8rem;border-radius:4px;white-space:pre-wrap}"
    "b.good{color:#16a34a}b.bad{color:#dc2626}"
)
