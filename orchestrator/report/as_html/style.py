"""The page's one style sheet: light, dark, phone and paper."""

from __future__ import annotations

import hashlib
from base64 import b64encode

PHASE_COLOURS = {
    "queued": ("#d5dae1", "#3a424e"),
    "submitting": ("#b48ead", "#b48ead"),
    "in_doubt": ("#d08770", "#d08770"),
    "running": ("#5e81ac", "#7ba0cc"),
    "collecting": ("#8fbcbb", "#8fbcbb"),
    "verifying": ("#4c9a6a", "#6fbf8d"),
    "held": ("#c9a227", "#e0bd4f"),
    "unmounting": ("#88909c", "#99a3b3"),
    "out_of_reach": ("#bf3b46", "#e0707a"),
}
"""The colour of each phase, on light and on dark ground."""

_PHASES = "".join(f".p-{name}{{--c:{light}}}" for name, (light, _) in PHASE_COLOURS.items())
_DARK_PHASES = "".join(f".p-{name}{{--c:{dark}}}" for name, (_, dark) in PHASE_COLOURS.items())

SHEET = (
    """
:root{color-scheme:light dark;--ground:#fff;--ink:#1d232b;--soft:#5a6472;--line:#d9dee5;
--panel:#f5f7f9;--good:#2c7a4b;--bad:#b3261e;--doubt:#9a5b00;--idle:#5a6472}
@media screen and (prefers-color-scheme:dark){:root{--ground:#14181d;--ink:#e4e8ee;--soft:#9aa5b4;
--line:#2d343e;--panel:#1c222a;--good:#6fcf97;--bad:#ff8a80;--doubt:#f0b95b;--idle:#9aa5b4}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:76rem;padding:1.5rem;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .25rem}
h1,h3,p,li{overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2rem 0 .6rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.2rem 0 .4rem}
p{margin:.3rem 0}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.soft{color:var(--soft)}
.answer{margin:1rem 0;padding:.8rem 1rem;border-left:.4rem solid var(--idle);
background:var(--panel)}
.answer b{font-size:1.15rem}
.answer.good{border-color:var(--good)}.answer.bad{border-color:var(--bad)}
.answer.doubt{border-color:var(--doubt)}
.good>b,td.good,b.good{color:var(--good)}.bad>b,td.bad,b.bad{color:var(--bad)}
.doubt>b,td.doubt,b.doubt{color:var(--doubt)}
ul.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(6.5rem,1fr));gap:.5rem;
list-style:none;margin:1rem 0;padding:0}
ul.tiles li{padding:.5rem .75rem;background:var(--panel);border-radius:.3rem}
ul.tiles b{display:block;font-size:1.4rem;font-variant-numeric:tabular-nums}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem}
a{color:inherit}
section{scroll-margin-top:1rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;
border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600;white-space:nowrap}
td{font-variant-numeric:tabular-nums;overflow-wrap:break-word}
td code{overflow-wrap:anywhere;display:inline-block;min-width:9rem}
table.narrow{width:auto}table.narrow td{padding-right:1.4rem}
table.all{table-layout:fixed}
.all th:nth-child(1){width:30%}.all th:nth-child(2),.all th:nth-child(3){width:9%}
.all th:nth-child(4){width:25%}
.part{content-visibility:auto;contain-intrinsic-size:auto 3000px}
.target{margin:.8rem 0;padding:.6rem .9rem;background:var(--panel);border-radius:.3rem}
.target h3{margin:0 0 .2rem}
svg{display:block;width:100%;min-width:44rem;height:auto;margin:.4rem 0}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}
svg .name{fill:var(--ink)}
svg text.bad,svg text.doubt{font-weight:700}
svg .bad{fill:var(--bad);stroke:none}svg .doubt{fill:var(--doubt);stroke:none}
svg [class^=p-]{fill:var(--c)}svg path.thin{fill:none;stroke:var(--c)}
path.bad{--c:var(--bad)}path.doubt{--c:var(--doubt)}
svg .axis{stroke:var(--line);stroke-width:1;fill:none}
svg .limit{stroke:var(--soft);stroke-width:1;stroke-dasharray:4 3;fill:none}
svg .outage{fill:var(--bad);opacity:.15}
svg .curve{stroke:#5e81ac;stroke-width:1.5;fill:none}
PHASES
@media screen and (prefers-color-scheme:dark){DARK}
.legend span{display:inline-block;margin-right:1rem;white-space:nowrap}
.legend svg{display:inline-block;width:.8rem;min-width:0;height:.8rem;
margin:0 .3rem 0 0;vertical-align:-.1rem}
.sign{display:grid;grid-template-columns:1fr 1fr 1fr;gap:2rem;margin-top:3rem}
.sign p{border-top:1px solid var(--ink);padding-top:.3rem}
@media screen and (max-width:40rem){body{padding:.8rem}.wide table.all{min-width:46rem}
.sign{grid-template-columns:1fr}.cards thead{display:none}.cards,.cards tbody{display:block}
.cards tr{display:block;padding:.5rem 0;border-bottom:1px solid var(--line)}
.cards td{display:grid;grid-template-columns:6.5rem minmax(0,1fr);padding:.1rem 0;border:0;
overflow-wrap:anywhere}
.cards td::before{content:attr(data-of);color:var(--soft)}}
@page{size:A4;margin:14mm}
@media print{body{max-width:none;padding:0;font-size:10pt}.target,tr,svg{break-inside:avoid}
nav{display:none}.part{content-visibility:visible}td{overflow-wrap:anywhere;min-width:5rem}
td code{min-width:0}th{white-space:normal}
td:first-child{min-width:8rem}.all td,.narrow td{min-width:0}
h2,h3{break-after:avoid}.wide{overflow:visible}svg{min-width:0}.answer,.target,ul.tiles li{
border:1px solid var(--line);print-color-adjust:exact;-webkit-print-color-adjust:exact}
svg{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
""".strip()
    .replace("{DARK}", "{" + _DARK_PHASES + "}")
    .replace("PHASES", _PHASES)
)

_HASH = b64encode(hashlib.sha256(SHEET.encode()).digest()).decode()

POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
"""The content-security policy: this style sheet and nothing else."""
