"""The page's one style sheet: light, dark, phone and paper."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode

PHASES = {
    "queued": ("#7d8796", "#77839a", 2, ""),
    "busy": ("#8a6d3b", "#c9a86a", 4, "1 3"),
    "submitting": ("#9b6b96", "#c79bc1", 6, "2 1"),
    "in_doubt": ("#b9532c", "#e08e6d", 12, "3 3"),
    "running": ("#3f6ea5", "#7ba0cc", 12, ""),
    "collecting": ("#2a8583", "#8fbcbb", 6, ""),
    "verifying": ("#2c7a4b", "#6fbf8d", 12, "5 1"),
    "held": ("#946f00", "#e0bd4f", 12, "1.5 1.5"),
    "unmounting": ("#6b7280", "#99a3b3", 4, "4 1"),
    "out_of_reach": ("#b3261e", "#ff8a80", 12, "9 3"),
}
"""Of each phase: its colour on light and on dark ground (at least 3:1 to it), how high its bar is,
and how that is dashed: nobody needs the colours."""

_PHASES = "".join(f".p-{name}{{--c:{light}}}" for name, (light, *_) in PHASES.items())
_DARK_PHASES = "".join(f".p-{name}{{--c:{dark}}}" for name, (_, dark, *_) in PHASES.items())
_SHAPES = "".join(
    f".bar.p-{name}{{stroke-width:{high}}}" + (f".p-{name}{{stroke-dasharray:{dash}}}" * bool(dash))
    for name, (_, _, high, dash) in PHASES.items()
)

SHEET = (
    """
:root{color-scheme:light dark;--ground:#fff;--ink:#1d232b;--soft:#5a6472;--line:#d9dee5;
--panel:#f5f7f9;--good:#2c7a4b;--bad:#b3261e;--doubt:#9a5b00;--idle:#5a6472;--curve:#3f6ea5}
@media screen and (prefers-color-scheme:dark){:root{--ground:#14181d;--ink:#e4e8ee;--soft:#9aa5b4;
--line:#2d343e;--panel:#1c222a;--good:#6fcf97;--bad:#ff8a80;--doubt:#f0b95b;--idle:#9aa5b4;
--curve:#7ba0cc}}
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
.hint,.paper{display:none}
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
th{color:var(--soft);font-weight:600}
td{font-variant-numeric:tabular-nums;overflow-wrap:anywhere;min-width:4.5rem}
td code{display:inline-block}
table.narrow{width:auto}table.narrow td{padding-right:1.4rem}
.facts th{font-weight:400;padding-right:1.4rem}
table.all{table-layout:fixed}.all td{overflow-wrap:break-word}
.all th:nth-child(1){width:28%}.all th:nth-child(2),.all th:nth-child(3){width:10.5%}
.all th:nth-child(4){width:23%}
.part{content-visibility:auto;contain-intrinsic-size:auto 3000px}
.target{margin:.8rem 0;padding:.6rem .9rem;background:var(--panel);border-radius:.3rem}
.target h3{margin:0 0 .2rem}
svg{display:block;width:100%;min-width:44rem;height:auto;margin:.4rem 0}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}
svg .name{fill:var(--ink)}
svg text.bad,svg text.doubt{font-weight:700}
svg .bad{fill:var(--bad);stroke:none}svg .doubt{fill:var(--doubt);stroke:none}
svg path[class*=p-],svg path.thin{fill:none;stroke:var(--c)}
path.bad{--c:var(--bad)}path.doubt{--c:var(--doubt)}
svg .axis{stroke:var(--line);stroke-width:1;fill:none}
svg .stop{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:5 3;fill:none}
svg .limit{stroke:var(--soft);stroke-width:1;stroke-dasharray:4 3;fill:none}
svg .outage{fill:var(--bad);opacity:.15}
svg .curve{stroke:var(--curve);stroke-width:1.5;fill:none}
PHASES
SHAPES
@media screen and (prefers-color-scheme:dark){DARK}
.legend span{display:inline-block;margin-right:1rem;white-space:nowrap}
.legend svg{display:inline-block;width:1.9rem;min-width:0;height:.9rem;
margin:0 .3rem 0 0;vertical-align:-.1rem}
.sign{display:grid;grid-template-columns:1fr 1fr 1fr;gap:2rem;margin-top:3rem}
.sign p{border-top:1px solid var(--ink);padding-top:.3rem}
@media screen and (max-width:48rem){.hint{display:block;color:var(--soft)}
.wide{padding-bottom:.4rem;border-right:3px solid var(--soft)}}
@media screen and (max-width:56rem){.cards thead{display:none}.cards,.cards tbody{display:block}
.cards tr{display:block;padding:.5rem 0;border-bottom:1px solid var(--line)}
.cards td{display:grid;grid-template-columns:7rem minmax(0,1fr);padding:.1rem 0;border:0}
.cards td::before{content:attr(data-of);color:var(--soft)}}
@media screen and (max-width:40rem){body{padding:.8rem}.wide table.all{min-width:52rem}
.sign{grid-template-columns:1fr}}
@media print,(min-width:56.01rem){.cards:not(.narrow){table-layout:fixed}
.cards:not(.narrow) td{overflow-wrap:break-word}
.todo th:nth-child(1),.written th:nth-child(1){width:21%}.todo th:nth-child(n+2){width:9%}
.todo th:nth-child(n+4){width:20%}.todo th:nth-child(5){width:15%}.todo th:nth-child(6){width:26%}
.attempts th:nth-child(1){width:19%}.attempts th:nth-child(n+2){width:14%}
.attempts th:nth-child(n+3){width:11%}.attempts th:nth-child(n+5){width:10%}
.attempts th:nth-child(7){width:25%}
.checks th:nth-child(1){width:12%}.checks th:nth-child(2){width:32%}
.checks th:nth-child(n+3){width:23.5%}.checks th:nth-child(5){width:9%}
.files th:nth-child(n+1){width:25%}.files th:nth-child(n+3){width:8%}
.files th:nth-child(n+5){width:22%}.files th:nth-child(6){width:12%}
.servers th:nth-child(1){width:22%}.servers th:nth-child(2){width:22%}
.servers th:nth-child(3){width:13%}.servers th:nth-child(n+4){width:8%}
.servers th:nth-child(6){width:12%}.servers th:nth-child(7){width:15%}
.untried th:nth-child(1){width:30%}.untried th:nth-child(2){width:10%}}
@page{size:A4;margin:14mm 13mm 16mm;@bottom-right{content:"page " counter(page) " of "
counter(pages);font:8pt system-ui,sans-serif;color:#5a6472}}
@media print{body{max-width:none;padding:0;font-size:8.5pt;line-height:1.35}
nav,.screen{display:none}.paper{display:block}.part{content-visibility:visible}
.wide{overflow:visible}svg{min-width:0;max-height:232mm;break-inside:avoid}tr{break-inside:avoid}
h1{font-size:15pt}h2{font-size:11pt;margin:1.1rem 0 .4rem}h3{font-size:9pt;margin:.6rem 0 .2rem}
h2,h3,thead{break-after:avoid}.target{margin:.4rem 0;padding:.3rem .5rem}
.target h3,.target p{break-after:avoid}
table{font-size:7.5pt}th,td{padding:.12rem .4rem .12rem 0}
td,.all td{min-width:0;overflow-wrap:break-word}td code{overflow-wrap:anywhere;font-size:6.5pt}
table.all{font-size:7pt;line-height:1.2}.all th,.all td{padding:.05rem .3rem .05rem 0}
ul.tiles{grid-template-columns:repeat(8,1fr);gap:.3rem;margin:.5rem 0}
ul.tiles li{padding:.25rem .4rem}ul.tiles b{font-size:11pt}.answer{margin:.5rem 0}
.answer,.target,ul.tiles li{border:1px solid var(--line);print-color-adjust:exact;
-webkit-print-color-adjust:exact}
svg{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
""".strip()
    .replace("{DARK}", "{" + _DARK_PHASES + "}")
    .replace("PHASES", _PHASES)
    .replace("SHAPES", _SHAPES)
)


def sheet_of(run: str) -> str:
    """Return the style sheet of a report: on paper each page has the run's id at its foot."""
    name = re.sub(r"[^\w.-]", "_", run, flags=re.ASCII)
    return (
        f'{SHEET}\n@page{{@bottom-left{{content:"bulk-restore, run {name}";'
        "font:8pt system-ui,sans-serif;color:#5a6472}}"
    )


def policy(sheet: str) -> str:
    """Return the content-security policy: this style sheet and nothing else."""
    digest = b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
