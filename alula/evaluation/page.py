"""The report's page: style sheet and the frame around the sections; nothing in it is loaded from elsewhere."""

import html

STYLE = """
:root{--bg:#fbfaf8;--card:#fff;--ink:#1c2127;--soft:#5d6671;--rule:#e4e2dd;--grid:#eceae5;
  --good:#1f7a4d;--bad:#b3372f;
--c0:#1f5fa8;--c1:#cf6a1c;--c2:#2f8f6b;--c3:#a33a7c;--c4:#7a6bc4;--c5:#8a7a3c;--shade:#1f5fa812;
  color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1b1f25;--ink:#e8e6e1;--soft:#9aa3ad;
  --rule:#2b3037;--grid:#262b32;--good:#57c08a;--bad:#f0837a;
--c0:#6aa9f0;--c1:#f0a05a;--c2:#5cc79d;--c3:#e08bc0;--c4:#a99bf0;--c5:#c9b768;--shade:#6aa9f01c}
}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
  -webkit-text-size-adjust:100%}
main{max-width:1120px;margin:0 auto;padding:28px 16px 64px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .35rem;font-weight:650;letter-spacing:-.015em;
  overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.6rem 0 .3rem;padding-top:1.1rem;border-top:1px solid var(--rule);
  font-weight:650}
h2+p{margin:0 0 1rem;color:var(--soft);max-width:68ch}
.lead{font-size:1.08rem;max-width:68ch;margin:.2rem 0 1.3rem}
.kind{color:var(--soft);margin:0 0 .9rem;font-size:.95rem}
.good{color:var(--good)}
.bad{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:10px}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 14px}
.tile span{display:block;color:var(--soft);font-size:.82rem}
.tile b{display:block;font-size:1.6rem;font-weight:600;letter-spacing:-.02em;
  font-variant-numeric:tabular-nums;line-height:1.3}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:14px}
.figures.wide{grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr))}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:8px;
  padding:12px 12px 8px;min-width:0}
figure figure{border:0;padding:0;background:none}
figcaption{font-size:.92rem;margin:0 0 4px;display:flex;flex-wrap:wrap;gap:2px 14px;
  align-items:baseline}
figcaption b{font-weight:600}
figure p{font-size:.82rem;line-height:1.4;color:var(--soft);margin:4px 2px 4px}
figure img{display:block;max-width:100%;height:auto;border-radius:4px;background:#fff}
.legend{display:flex;flex-wrap:wrap;gap:2px 12px;font-size:.82rem;color:var(--soft)}
.key i{display:inline-block;width:16px;height:0;border-top:3px solid;vertical-align:middle;
  margin-right:5px}
.key i.dashed{border-top-style:dashed}
.chart{display:block;width:100%;height:auto;max-width:460px;margin:0 auto}
.chart text{font-size:10.5px;fill:var(--soft);font-variant-numeric:tabular-nums}
.chart .label{font-size:11px}
.grid{stroke:var(--grid);fill:none}
.mark{stroke:var(--soft);stroke-dasharray:2 3;fill:none}
.shade{fill:var(--shade)}
.line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.line.thin{stroke-width:1.1;opacity:.85}
.line.dashed{stroke-dasharray:5 4}
.band{fill:currentColor;opacity:.14;stroke:none}
.dot{fill:currentColor}
.s0{color:var(--c0)}
.s1{color:var(--c1)}
.s2{color:var(--c2)}
.s3{color:var(--c3)}
.s4{color:var(--c4)}
.s5{color:var(--c5)}
.ink{color:var(--ink)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:7px 12px 7px 0;border-bottom:1px solid var(--rule);
  vertical-align:top}
thead th{color:var(--soft);font-weight:500;font-size:.82rem}
tbody th{font-weight:500}
td small{display:block;color:var(--soft);font-size:.8rem;white-space:nowrap}
td.any{overflow-wrap:anywhere}
ul.checks{list-style:none;margin:1.2rem 0 0;padding:0;font-size:.93rem}
ul.checks li{padding:2px 0 2px 1.5em;text-indent:-1.5em}
ul.checks li:before{content:"\\2713";display:inline-block;width:1.5em;text-indent:0;
  color:var(--good);font-weight:700}
ul.checks li.bad:before{content:"\\2717";color:var(--bad)}
footer{margin-top:3rem;color:var(--soft);font-size:.82rem}
@media(max-width:480px){main{padding:20px 12px 48px}
.tile{padding:10px 12px}
.tiles{grid-template-columns:1fr 1fr}
.tile b{font-size:1.4rem}
th,td{padding-right:8px}
table{font-size:.84rem}
}
@media print{body{background:#fff}
figure,.tile{break-inside:avoid}
}
"""
"""Style sheet; light and dark, wide and narrow."""


def page(title: str, body: str) -> str:
    """A complete HTML document."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # no script and nothing from any network, whatever a file's text contains
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none';style-src 'unsafe-inline';img-src data:\">"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def section(title: str, about: str, body: str) -> str:
    """A heading, a sentence, and what follows."""
    note = f"<p>{html.escape(about)}</p>" if about else ""
    return f"<section><h2>{html.escape(title)}</h2>{note}{body}</section>"


def figures(items: list[str], *, wide: bool = False) -> str:
    """Figures beside each other where there is room: three in a row, two where `wide`."""
    return f'<div class="figures{" wide" if wide else ""}">{"".join(items)}</div>'


def table(head: list[str], rows: list[list[str]], *, breakable: bool = False) -> str:
    """A table of cells that are HTML already; the first of each row is its heading.

    Long words, such as hashes, are broken where `breakable`; else a wide table scrolls sideways.
    """
    kind = ' class="any"' if breakable else ""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td{kind}>{cell}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
