// The search: conditions as chips, counts of what the hits have in common, and for each hit why it is there.
// Loaded before console.js, whose helpers ($, api, element) it uses when it is called.
"use strict";

const NAMES = { dense: "by meaning", bm25: "by words", name: "by name" };
const COMMON = ["source", "filetype", "language", "modified:year"];
const OURS = new Set(["source", "path", "title", "filetype", "language", "author", "created", "modified", "url",
  "heading", "page", "chunk", "sidecar_error"]);
const MOST_OWN = 6;
const MOST_SHOWN = 8;
const MOST_GROUPS = 7;
const CONDITION = /^\s*([^=<>!{}]+?)\s*(!=|>=|<=|=|>|<)\s*(.+?)\s*$/;
const RANGES = { ">": "gt", ">=": "gte", "<": "lt", "<=": "lte" };
let conditions = [];  // {field, test, label}: all must hold; several of one facet: either
let ownFields = [];
let searches = 0;  // an answer that comes after a later search was asked is not shown

function readCondition(text) {
  const found = CONDITION.exec(text);
  if (!found) return null;
  const [, field, sign, value] = found;
  let test = value;
  if (RANGES[sign]) test = { [RANGES[sign]]: value };
  else if (value === "*") test = { exists: sign === "=" };
  else if (sign === "!=") test = { not: value };
  else if (value.endsWith("*")) test = { prefix: value.slice(0, -1) };
  return { field, test, label: `${field} ${sign} ${value}` };
}

function filters() {
  const either = new Map();
  const parts = [];
  for (const { field, test } of conditions) {
    if (typeof test === "object") parts.push({ [field]: test });
    else either.set(field, [...(either.get(field) || []), test]);
  }
  for (const [field, values] of either) parts.push({ [field]: values });
  return parts.length ? { and: parts } : {};
}

function toggle(condition) {
  const same = conditions.findIndex((each) => each.label === condition.label);
  if (same >= 0) conditions.splice(same, 1);
  else conditions.push(condition);
  const name = document.activeElement?.dataset.name;
  showConditions();
  searchAgain().then(() => {
    // What was pressed was shown anew; unless the focus has been taken elsewhere meanwhile, it goes back.
    if (name === undefined || document.activeElement !== document.body) return;
    if (!focusOn($("facets"), name) && !focusOn($("conditions"), name)) $("query").focus();
  });
}

function showConditions() {
  $("conditions").replaceChildren(...conditions.map((each) => {
    const chip = element("button", `${each.label} ✕`, "chip on");
    chip.type = "button";
    chip.dataset.name = each.label;
    chip.setAttribute("aria-label", `Remove the condition ${each.label}`);
    chip.addEventListener("click", () => toggle(each));
    return chip;
  }));
}

function showFacets(facets, over) {
  const chosen = ([name]) => conditions.some((each) => each.field === name.split(":")[0]);
  // Something that every document has for itself (a number, a slug) divides nothing.
  const divides = ([, values]) => values.length > 1 && (values.length <= 4 || values[0].count > 2);
  const groups = Object.entries(facets || {}).filter((group) => chosen(group) || divides(group)).slice(0, MOST_GROUPS);
  $("facets").replaceChildren(...groups.map(([name, values]) => {
    const [field, unit] = name.split(":");
    const group = element("div", null, "facet");
    group.append(element("span", unit ? `${field}, by ${unit}` : field, "faint"));
    for (const { value, count } of values.slice(0, MOST_SHOWN)) {
      const condition = { field, test: value, label: `${field} = ${value}` };
      const chip = element("button", `${value} ${count}`, "chip");
      chip.type = "button";
      chip.dataset.name = condition.label;
      chip.setAttribute("aria-pressed", String(conditions.some((each) => each.label === condition.label)));
      chip.addEventListener("click", () => toggle(condition));
      group.append(chip);
    }
    if (values.length > MOST_SHOWN) group.append(element("span", `and ${values.length - MOST_SHOWN} more`, "faint"));
    return group;
  }));
  if (groups.length && over && !over.complete) {
    $("facets").append(element("p", `Counted over the best ${over.documents.toLocaleString("en")} documents; more fit.`, "faint"));
  }
}

function learnFields(hits) {
  // People's own metadata: whatever short values the hits have beside what every document has.
  const found = new Set(ownFields);
  for (const { metadata } of hits) {
    for (const [field, value] of Object.entries(metadata)) {
      if (OURS.has(field) || value === null || found.size >= MOST_OWN) continue;
      if (/^\d{4}-\d\d/.test(value)) found.add(`${field}:year`);
      else if (Array.isArray(value) || typeof value === "boolean" || (typeof value === "string" && value.length <= 40)) found.add(field);
    }
  }
  const more = found.size > ownFields.length;
  ownFields = [...found];
  return more;
}

async function runSearch(query) {
  stopAsking();
  $("conversation").hidden = true;  // until the next question
  searches += 1;
  const mine = searches;
  const narrowed = filters();
  const request = () => ({
    query, mode: $("mode").value, limit: 10, explain: true, filters: narrowed, facets: [...COMMON, ...ownFields],
    ...($("newest").checked && { recency: {} }),
  });
  const ask = async () => (await api("/v1/search", { method: "POST", json: request() })).json();
  let result = await ask();
  if (learnFields(result.hits)) result = await ask();
  if (mine !== searches) return;
  const count = `${result.hits.length} ${result.hits.length === 1 ? "hit" : "hits"}, ${result.mode} search, ${Math.round(result.took_ms)} ms`;
  const nothing = conditions.length ? "Nothing found that fits the conditions. Remove one of them." : "Nothing found.";
  const note = result.hits.length ? count : nothing;
  const told = [note, result.degraded && `(${result.degraded})`, result.note].filter(Boolean).join(" ");
  showHits(result.hits, told, { id: result.id, query, filters: narrowed });
  showFacets(result.facets, result.facets_over);
}

async function searchAgain() {
  // In a conversation, conditions are for the next question.
  const query = $("query").value.trim();
  if (query && $("conversation").hidden) await runSearch(query).catch(searchFailed);
}

function searchFailed(error) {
  showHits([], error.message);
}

function why(hit) {
  // The reasons as a sentence for everybody, the figures below for those who want them.
  const told = hit.explain;
  if (!told || !told.summary) return null;
  const box = element("details", null, "why");
  box.append(element("summary", "Why is this here?"), element("p", told.summary));
  const list = element("dl");
  const say = (name, text) => { if (text) list.append(element("dt", name), element("dd", text)); };
  for (const [name, place] of Object.entries(told.lists || {})) {
    say(NAMES[name] || name, `number ${place.rank}, score ${place.score.toFixed(3)}`);
  }
  if (told.fusion) say("together", told.score.toFixed(3));
  say("words it has", (told.matched || []).join(", "));
  say("words in its file's name", (told.named || []).join(", "));
  say("words it lacks", (told.missing || []).join(", "));
  say("conditions it passes", (told.filters || []).join("; "));
  say("place", [`chunk ${told.chunk}`, told.page && `page ${told.page}`, told.heading].filter(Boolean).join(", "));
  say("version", [String(told.version || "").slice(0, 12), told.indexed_at && `indexed ${ago(told.indexed_at)}`].filter(Boolean).join(", "));
  if (told.embedded === false) say("meaning", "not computed yet; found by its words");
  for (const other of told.neighbours || []) say(other.chunk < told.chunk ? "before it" : "after it", `${other.begins} …`);
  box.append(list);
  return box;
}

function sameAs(hit) {
  const places = [...new Set((hit.duplicates || []).map((other) => other.path))];
  return places.length ? element("div", `The same text is in ${places.join(", ")}.`, "reason") : null;
}

function setUpSearch() {
  $("condition-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("condition").value.trim();
    const condition = readCondition(text);
    $("condition-note").textContent = condition || !text ? "" : "Write for example: filetype=text/markdown, date>=2015 or path=laws/*";
    if (!condition) return;
    $("condition").value = "";
    toggle(condition);
  });
  $("newest").addEventListener("change", searchAgain);
}
