"use strict";
// What the judge would say at another margin, on the numbers of the findings. outcomeAt is judge/evidence.py's rule for
// one of them, verdictAt judge/judge.py's for all; a test holds both to it.
const ROUNDING = 1e-12; // an estimate this close to the margin is at the margin
const SQUARE = 1.6448536269514722 ** 2, CHANCE = 0.05; // critical value and chance by which a group is too small to certify

function outcomeAt(finding, margin, policy) {
  const { tested, estimate, lower, upper, p } = finding;
  if (!tested || [estimate, lower, upper].some(Number.isNaN)) return "inconclusive";
  const floor = policy.strict ? margin : 0, level = Math.max(policy.alpha, 1 / (1 + policy.draws));
  if (lower > floor && p <= level && estimate >= margin - ROUNDING) return "regressed";
  return upper < margin ? "preserved" : "inconclusive";
}

function verdictAt(findings, margin, policy) {
  const unchanged = (rows) => Math.max(SQUARE / (rows + SQUARE), -Math.expm1(Math.log(CHANCE) / rows));
  const certifiable = ({ n, rest }) => Math.hypot(unchanged(n), unchanged(rest)) < margin;
  const forbids = (f) => f.dominated || (f.tested && (f.estimate >= margin - ROUNDING || certifiable(f)));
  let preserved = 0, others = 0, undecided = false;
  for (const finding of findings) {
    const outcome = outcomeAt(finding, margin, policy);
    if (outcome === "regressed" && !finding.accepted) return "regressed";
    if (outcome === "preserved") preserved += 1;
    if (outcome === "inconclusive") others += 1;
    undecided ||= outcome === "inconclusive" && forbids(finding);
  }
  if (undecided || !preserved) return "inconclusive";
  return policy.untested === "fail" && others ? "inconclusive" : "preserved";
}

function findingOf(row) {
  const { estimate, lower, upper, p, n, rest, tested, dominated, accepted } = row.dataset;
  return { estimate: parseFloat(estimate), lower: parseFloat(lower), upper: parseFloat(upper), p: parseFloat(p),
    n: parseFloat(n), rest: parseFloat(rest), tested: tested === "1", dominated: dominated === "1",
    accepted: accepted === "1" };
}

function policyOf(form) {
  const { alpha, strict, untested, draws } = form.dataset;
  return { alpha: parseFloat(alpha), strict: strict === "1", untested, draws: parseFloat(draws) };
}

function wordOf(finding, outcome) {
  if (outcome === "regressed" && finding.accepted) return "accepted";
  return finding.tested || finding.dominated ? outcome : "untested";
}

// The slider: every row, the line of what is allowed and the counts as they would be. What is printed is the verdict.
function slide(section, screen) {
  const form = section.querySelector(".slider");
  if (!form) return;
  const range = form.querySelector("input"), output = form.querySelector("output");
  const recount = form.querySelector(".recount"), caption = section.querySelector(".findings caption");
  const policy = policyOf(form), reach = parseFloat(form.dataset.reach);
  const rows = [...section.querySelectorAll(".findings tbody tr")].map((row) => ({ row, finding: findingOf(row),
    badge: row.querySelector(".badge"), why: row.querySelector(".why"), line: row.querySelector(".allowed"),
    shown: row.className, judged: row.className }));
  const totals = section.querySelectorAll(".pick output");
  const judged = parseFloat(range.defaultValue), digits = Math.max(1, (range.step.split(".")[1] || "").length);
  const place = (points) => Math.min(120 * (1 + points / 100 / reach), 240);

  function show(points) {
    const moved = points !== judged, shift = `translate(${place(points) - place(judged)})`, counts = {};
    for (const each of rows) {
      const word = moved ? wordOf(each.finding, outcomeAt(each.finding, points / 100, policy)) : each.judged;
      counts[word] = (counts[word] || 0) + 1;
      if (each.line) each.line.setAttribute("transform", shift);
      if (word === each.shown) continue;
      each.shown = each.row.className = each.badge.firstChild.data = word;
      each.badge.className = "badge " + word;
      if (each.why) each.why.hidden = word !== each.judged;
    }
    for (const total of totals) total.textContent = (counts[total.dataset.word] || 0).toLocaleString("en");
    const said = points.toFixed(digits) + " points", found = Object.entries(counts).map(([word, n]) => n + " " + word);
    output.textContent = said + (moved ? "" : " (as judged)");
    range.setAttribute("aria-valuetext", output.textContent);
    section.classList.toggle("moved", moved);
    caption.textContent = moved ? `Hypothetical: ${said} allowed, judged at ${judged.toFixed(digits)}` : "";
    const verdict = moved ? verdictAt(rows.map((each) => each.finding), points / 100, policy) : "";
    recount.textContent = moved ? `The verdict would be ${verdict}: ${found.join(" · ")}` : "";
  }

  let due = 0;
  range.addEventListener("input", () => {
    cancelAnimationFrame(due);
    due = requestAnimationFrame(() => show(parseFloat(range.value)));
  });
  form.addEventListener("reset", () => show(judged));
  form.addEventListener("submit", (event) => event.preventDefault());
  screen.addEventListener("beforeprint", () => show(judged));
  screen.addEventListener("afterprint", () => show(parseFloat(range.value)));
}

// The search lists the rows whose group or metric holds what is typed, whatever their outcome.
function find(section) {
  const input = section.querySelector(".find");
  if (!input) return;
  const all = section.querySelectorAll(".findings tbody tr, .flips tbody tr");
  const nameOf = (row) => [...row.querySelectorAll("th, .metric")].map((cell) => cell.textContent).join(" ");
  let rows;
  input.hidden = false;
  input.form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", () => {
    if (!rows) for (const box of input.form.querySelectorAll("[type=checkbox]")) box.checked = true;
    rows ||= [...all].map((row) => [row, nameOf(row).toLowerCase()]);
    for (const [row, name] of rows) row.hidden = !name.includes(input.value.toLowerCase());
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
  document.querySelectorAll(".check").forEach((section) => {
    slide(section, window);
    find(section);
  });
  fold(document, window);
}
if (typeof module !== "undefined") module.exports = { findingOf, fold, outcomeAt, policyOf, verdictAt };
