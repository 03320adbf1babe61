"""How a report looks: one style sheet, with colours for light and dark, and a shape for each verdict."""

# verdict -> what is drawn beside its name: no verdict is told by colour alone
ICONS = {
    "backdoored": '<path d="M8 2h8l6 6v8l-6 6H8l-6-6V8z"/><path class="cut" d="M12 6v8M12 16.5v2.5"/>',
    "suspicious": '<path d="M12 2l11 20H1z"/><path class="cut" d="M12 9v6M12 17v2.5"/>',
    "clean": '<circle cx="12" cy="12" r="11"/><path class="cut" d="M6.5 12.5l4 4 7-8"/>',
    "inconclusive": '<path d="M12 1l11 11-11 11L1 12z"/><path class="cut" d="M9 9.5a3 3 0 1 1 3 3.5v1M12 16v2"/>',
    "refused": '<rect x="1" y="1" width="22" height="22" rx="3"/><path class="cut" d="M7 7l10 10M17 7L7 17"/>',
}

STYLE = """
.dl-scan { --ink: #1f1d1a; --soft: #57534c; --line: #dcd8d0; --paper: #fff; --wash: #f6f4ef; --mark: #0b5a8a;
  --alarm: #9b1c1c; --faint: #a8a298;
  font: 400 1rem/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
.dl-scan * { box-sizing: border-box; }
.dl-scan h2 { font-size: 1.5rem; line-height: 1.2; letter-spacing: -.01em; margin: 3.5rem 0 .5rem; }
.dl-scan h3 { font-size: 1rem; line-height: 1.3; margin: 0; }
.dl-scan p { margin: 0 0 .75rem; max-width: 44rem; }
.dl-scan .soft, .dl-scan figcaption { font-size: .875rem; line-height: 1.45; color: var(--soft); }
.dl-scan figure { margin: 0; }
.dl-scan figure img { display: block; width: 100%; height: auto; image-rendering: pixelated; background: #fff; }
.dl-scan .dl-cards img { max-height: 11rem; object-fit: contain; object-position: left top; background: none; }
.dl-scan figcaption { margin-top: .5rem; }
.dl-band { display: grid; grid-template-columns: 3.5rem 1fr; gap: 1.25rem; align-items: start; border-radius: .5rem;
  padding: 1.5rem 1.75rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.dl-band strong { display: block; font-size: 2rem; line-height: 1.1; letter-spacing: -.02em; }
.dl-band strong::first-letter { text-transform: uppercase; }
.dl-band svg { width: 3.5rem; fill: currentColor; }
.dl-band .cut { fill: none; stroke-width: 2.6; stroke-linecap: round; stroke-linejoin: round; }
.dl-scan .dl-band p { margin: .5rem 0 0; font-size: 1.125rem; line-height: 1.45; }
.dl-scan .dl-band .why { font-size: .875rem; }
.dl-backdoored { color: #fff; background: #8f1414; } .dl-backdoored .cut { stroke: #8f1414; }
.dl-suspicious { color: #fff; background: #8a4b00; } .dl-suspicious .cut { stroke: #8a4b00; }
.dl-clean { color: #fff; background: #1b5e20; } .dl-clean .cut { stroke: #1b5e20; }
.dl-inconclusive { color: #fff; background: #44474c; } .dl-inconclusive .cut { stroke: #44474c; }
.dl-refused { color: #fff; background: #2b3a55; } .dl-refused .cut { stroke: #2b3a55; }
.dl-tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1.25rem;
  margin: 1.25rem 0; }
.dl-tiles div { border-top: 3px solid var(--line); padding-top: .6rem; }
.dl-tiles .found { border-color: var(--alarm); }
.dl-tiles dt { font-size: .875rem; color: var(--soft); }
.dl-tiles dd { margin: 0; font-size: 1.125rem; font-weight: 600; line-height: 1.3; }
.dl-pair { display: grid; grid-template-columns: 2fr 2fr 1fr; gap: 1.25rem; margin: 1.25rem 0; align-items: start; }
.dl-pair figure { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; background: var(--wash); }
.dl-pair.raised .witness { border: 2px solid var(--alarm); padding: calc(1rem - 1px); }
.dl-scan .dl-cards { margin: 1.25rem 0; padding: 0; list-style: none; border-bottom: 1px solid var(--line); }
.dl-cards > li { display: grid; grid-template-columns: minmax(0, 15rem) minmax(0, 1fr) minmax(0, 18rem);
  gap: 1rem 2.5rem; border-top: 1px solid var(--line); padding: 1.75rem 0; margin: 0; break-inside: avoid; }
.dl-scan .dl-cards p { margin: .35rem 0 0; }
.dl-scan .dl-cards p.saw { margin: 0 0 1rem; }
.dl-cards h3::first-letter, .dl-cards .saw::first-letter, .dl-plain li::first-letter,
.dl-band p::first-letter { text-transform: uppercase; }
.dl-cards svg + svg { margin-top: 1.25rem; }
.dl-badge { font-size: .875rem; color: var(--soft); }
.dl-badge.found { color: var(--alarm); font-weight: 600; }
.dl-scan svg.plot { display: block; width: 100%; height: auto; overflow: visible; }
.dl-scan svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.dl-scan .rail { fill: var(--line); } .dl-scan .bar { fill: var(--faint); } .dl-scan .hit { fill: var(--alarm); }
.dl-scan .known { fill: var(--mark); } .dl-scan .edge { stroke: var(--ink); stroke-width: 1.5; }
.dl-scan .axis { stroke: var(--line); } .dl-scan .drop { stroke: var(--alarm); stroke-dasharray: 3 3; }
.dl-scroll { overflow-x: auto; overflow-wrap: break-word; }
.dl-scroll:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
.dl-scan table { border-collapse: collapse; width: 100%; font-size: .875rem; background: none; color: inherit; }
.dl-scan th, .dl-scan td { text-align: left; vertical-align: top; padding: .4rem 1rem .4rem 0;
  border-bottom: 1px solid var(--line); }
.dl-scan thead th { color: var(--soft); font-weight: 400; }
.dl-scan .together { white-space: nowrap; }
.dl-scan .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.dl-scan ul.dl-plain { margin: 0; padding-left: 1.25rem; max-width: 44rem; }
.dl-scan ul.dl-plain li { margin-bottom: .35rem; }
@media (max-width: 34rem) { 
  .dl-band { grid-template-columns: 1fr; gap: .75rem; padding: 1.25rem; }
  .dl-tiles { grid-template-columns: 1fr 1fr; }
  .dl-pair { gap: .75rem; grid-template-columns: 1fr 1fr; } .dl-scan .dl-pair figure { padding: .6rem; } }
@media screen and (max-width: 56rem) { .dl-cards > li { grid-template-columns: minmax(0, 30rem); } }
@media screen and (prefers-color-scheme: dark) {
  .dl-scan { --ink: #ece9e3; --soft: #b5afa5; --line: #3d3a35; --paper: #171614; --wash: #1f1e1b; --mark: #7cc0e8;
    --alarm: #ff8a80; --faint: #7d776d; }
}
"""
