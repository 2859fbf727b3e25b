"use strict";
// The rule of the judge, on the numbers of a finding: evidence of harm needs a corrected lower bound above zero, a small
// family-adjusted p value and an estimate at the margin; evidence of safety needs the upper bound below the margin.
function outcomeAt(finding, margin, policy) {
  if (!finding.tested || [finding.estimate, finding.lower, finding.upper].some(Number.isNaN)) return "inconclusive";
  const floor = policy.strict ? margin : 0;
  if (finding.lower > floor && finding.p <= policy.alpha && finding.estimate >= margin) return "regressed";
  return finding.upper < margin ? "preserved" : "inconclusive";
}

function findingOf(row) {
  const data = row.dataset;
  return { estimate: parseFloat(data.estimate), lower: parseFloat(data.lower), upper: parseFloat(data.upper),
    p: parseFloat(data.p), tested: data.tested === "1" };
}

function show(row, outcome, margin) {
  row.className = outcome;
  const badge = row.querySelector(".badge");
  badge.className = "badge " + outcome;
  badge.textContent = row.dataset.tested === "1" ? outcome : "untested";
  row.querySelector(".why").hidden = outcome !== row.dataset.outcome;
  const svg = row.querySelector("svg");
  if (!svg) return;
  const low = parseFloat(svg.dataset.low), high = parseFloat(svg.dataset.high);
  const x = Math.min(Math.max((240 * (margin - low)) / (high - low), 0), 240);
  const line = svg.querySelector(".allowed");
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
}

function wire(section) {
  const form = section.querySelector(".slider");
  if (!form) return;
  const range = form.querySelector("input"), output = form.querySelector("output");
  const rows = [...section.querySelectorAll(".findings tbody tr")];
  const policy = { alpha: parseFloat(section.dataset.alpha), strict: section.dataset.strict === "1" };
  range.addEventListener("input", () => {
    const margin = parseFloat(range.value) / 100;
    output.textContent = parseFloat(range.value).toFixed(1) + " points";
    const counts = { regressed: 0, inconclusive: 0, preserved: 0 };
    for (const row of rows) {
      const outcome = outcomeAt(findingOf(row), margin, policy);
      if (row.dataset.tested === "1") counts[outcome] += 1;
      show(row, outcome, margin);
    }
    form.querySelector(".recount").textContent = Object.entries(counts).map(([k, n]) => n + " " + k).join(" · ");
  });
  form.addEventListener("reset", () => {
    output.textContent = "as judged";
    form.querySelector(".recount").textContent = "";
    for (const row of rows) show(row, row.dataset.outcome, parseFloat(row.dataset.margin));
  });
}

// Details (files, settings, record) are open in the page, so that whatever prints it, script or not, prints them; on
// screen they are closed until somebody asks.
function fold(page, screen) {
  const all = [...page.querySelectorAll("details")];
  let asked = [];
  for (const each of all) each.open = false;
  screen.addEventListener("beforeprint", () => {
    asked = all.filter((each) => each.open);
    for (const each of all) each.open = true;
  });
  screen.addEventListener("afterprint", () => {
    for (const each of all) each.open = asked.includes(each);
  });
}

if (typeof document !== "undefined") {
  document.querySelectorAll(".check").forEach(wire);
  fold(document, window);
}
if (typeof module !== "undefined") module.exports = { fold, outcomeAt };
