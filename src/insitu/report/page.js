// Search, filters, and links that unfold what they lead to. The page is complete without.
"use strict";
const byId = (id) => document.getElementById(id);
const form = document.querySelector("form.filter");
const fields = { search: byId("search"), verdict: byId("verdict"), paper: byId("paper") };
const claims = [...document.querySelectorAll("tbody.claim")];
const papers = [...document.querySelectorAll("tbody.paper")];
const titles = new Map(papers.map((paper) => [paper.dataset.paper, paper.textContent]));
const words = new Map();

// What a search looks at: the statement, the rules, the caption, and the paper; not versions and keys.
function wordsOf(claim) {
  if (!words.has(claim)) {
    const copy = claim.cloneNode(true);
    copy.querySelectorAll("svg, .origin").forEach((part) => part.remove());
    words.set(claim, (copy.textContent + titles.get(claim.dataset.paper)).toLowerCase());
  }
  return words.get(claim);
}

function matches(claim) {
  const { search, verdict, paper } = fields;
  return (!verdict.value || claim.dataset.verdict === verdict.value)
    && (!paper.value || claim.dataset.paper === paper.value)
    && search.value.toLowerCase().split(/\s+/).every((word) => wordsOf(claim).includes(word));
}

function filter() {
  let shown = 0;
  const left = new Set();
  for (const claim of claims) {
    claim.hidden = !matches(claim);
    if (!claim.hidden) { shown += 1; left.add(claim.dataset.paper); }
  }
  for (const paper of papers) paper.hidden = !left.has(paper.dataset.paper);
  byId("shown").textContent = `${shown} of ${claims.length} claims`;
}

function show(verdict, paper) {
  fields.search.value = "";
  fields.verdict.value = verdict;
  fields.paper.value = paper;
  filter();
  byId("claims").scrollIntoView();
  fields.verdict.focus({ preventScroll: true });
}

function reveal() {
  const target = byId(decodeURIComponent(location.hash.slice(1)));
  const claim = target && target.closest("tbody.claim");
  if (!claim) return;
  if (claim.hidden) show("", "");
  claim.querySelector("details").open = true;
  claim.scrollIntoView();
}

function unfoldAll() {
  const open = byId("fold").textContent === "Unfold all";
  for (const claim of claims) claim.querySelector("details").open = open;
  byId("fold").textContent = open ? "Fold all" : "Unfold all";
}

form.hidden = false;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", filter);
byId("fold").addEventListener("click", unfoldAll);
window.addEventListener("hashchange", reveal);
document.addEventListener("click", (event) => {
  // A link to where one is already changes no address.
  if (event.target.closest(`a[href="${location.hash}"]`)) reveal();
  const link = event.target.closest("[data-show-verdict]");
  if (!link) return;
  event.preventDefault();
  show(link.dataset.showVerdict, link.dataset.showPaper);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  fields.search.focus();
});
filter();
reveal();
