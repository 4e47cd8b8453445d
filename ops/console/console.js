// The console: everything that comes from documents enters the page as text nodes, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);
const PAGE = 50;
const PAUSE_MS = 200;  // without a key pressed, before a list is asked for
const WORKING = ["queued", "parsing", "embedding", "failed"];
const ORDER = ["ready", "embedding", "parsing", "queued", "failed", "parked", "held", "empty", "skipped", "deleted"];
let key = sessionStorage.getItem("upwell-key") || "";
let shown = "";
let pages = 1;
let listing = new AbortController();  // a list that is under way when a later one is asked for is given up
let typing = null;
let lastFigures = "";

async function api(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (options.json !== undefined) {
    headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(options.json);
  }
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    $("key-form").hidden = false;
    await useShelf(null);
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    const error = problem.error || { message: `The api answers ${answer.status}.` };
    throw Object.assign(new Error([error.message, error.next].filter(Boolean).join(" ")), { status: answer.status });
  }
  return answer;
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function renew(list, children) {
  // A list is shown anew; where the focus was, it is again, if something of the same name is still there.
  const had = list.contains(document.activeElement) ? document.activeElement.dataset.name : undefined;
  list.replaceChildren(...children);
  if (had !== undefined && !focusOn(list, had)) $("documents-title").focus();
}

function focusOn(list, name) {
  const found = [...list.querySelectorAll("[data-name]")].find((each) => each.dataset.name === name);
  found?.focus();
  return Boolean(found);
}

function tellAloud(text) {
  // What a screen reader says; figures that change twice a second are not for the ear.
  if ($("announced").textContent !== text) $("announced").textContent = text;
}

// ---------------------------------------------------------------- status

async function refresh() {
  try {
    const status = await (await api("/v1/status")).json();
    await useShelf(key);
    showStatus(status);
    const figures = JSON.stringify([status.documents, status.chunks, status.embeddings_pending]);
    if (figures !== lastFigures) {
      lastFigures = figures;
      await listDocuments();
    }
    setTimeout(refresh, status.converged ? 2000 : 700);
  } catch (error) {
    $("summary").textContent = `Not connected. ${error.message}`;
    tellAloud($("summary").textContent);
    setTimeout(refresh, 2500);
  }
}

function showStatus(status) {
  const count = (names) => names.reduce((sum, name) => sum + (status.documents[name] || 0), 0);
  const all = ORDER.reduce((sum, name) => sum + (name === "deleted" ? 0 : status.documents[name] || 0), 0);
  const working = count(WORKING);
  const chunks = status.chunks.toLocaleString("en");
  $("summary").textContent = status.converged
    ? `Up to date: ${all} ${all === 1 ? "document" : "documents"}, ${chunks} chunks.`
    : `Working: ${working} of ${all} documents to go, ${status.embeddings_pending.toLocaleString("en")} embeddings pending.`;
  tellAloud(status.converged ? $("summary").textContent : "Working.");
  const bar = $("progress").parentElement;
  const share = all ? Math.round((100 * (all - working)) / all) : 0;
  bar.hidden = status.converged || !all;
  bar.setAttribute("aria-valuenow", share);
  $("progress").style.width = `${share}%`;
  const eta = status.eta_s ? ` About ${duration(status.eta_s)} left.` : "";
  $("progress-note").textContent = working && status.rate_per_s ? `${status.rate_per_s} documents a second.${eta}` : "";
  showStates(status.documents);
  const alarms = status.sources.filter((source) => source.alarm);
  $("alarms").replaceChildren(...alarms.map((source) => element("div", `${source.name}: ${source.alarm}`, "alarm")));
  const folders = status.sources.filter((source) => source.kind === "folder").map((source) => source.root);
  $("addresses").textContent = `Following ${folders.join(", ") || "no folder"} · collection ${status.collection} · `
    + Object.entries(status.addresses).map(([name, address]) => `${name} ${address}`).join(" · ");
}

function showStates(documents) {
  const buttons = [["", "all"], ...ORDER.filter((name) => documents[name]).map((name) => [name, `${name} ${documents[name]}`])];
  renew($("states"), buttons.map(([name, label]) => {
    const button = element("button", label);
    button.type = "button";
    button.dataset.name = name;
    button.setAttribute("aria-pressed", String(name === shown));
    button.addEventListener("click", () => { shown = name; listAgain(); showStates(documents); });
    return button;
  }));
}

// ---------------------------------------------------------------- documents

async function listDocuments() {
  listing.abort();
  const mine = listing = new AbortController();
  const rows = [];
  const piece = $("piece").value.trim();
  let cursor = null;
  try {
    do {
      const words = new URLSearchParams({
        limit: PAGE, ...(shown && { state: shown }), ...(piece && { contains: piece }), ...(cursor && { cursor }),
      });
      const found = await (await api(`/v1/documents?${words}`, { signal: mine.signal })).json();
      rows.push(...found.documents);
      cursor = found.next_cursor;
    } while (cursor && rows.length < pages * PAGE);  // of many documents, a page may have found none
  } catch (error) {
    if (mine.signal.aborted) return;
    throw error;
  }
  if (mine.signal.aborted) return;
  const visible = shown ? rows : rows.filter((row) => row.state !== "deleted");
  renew($("documents"), visible.map(documentRow));
  if (!cursor && document.activeElement === $("more")) $("documents-title").focus();
  $("more").hidden = !cursor;
  $("none").hidden = visible.length > 0;
  const fits = [shown && `is ${shown}`, piece && `has “${piece}” in its path`].filter(Boolean).join(" and ");
  $("none").textContent = fits ? `No document ${fits}.` : "Nothing here yet. Put a file into the folder that is followed, or drop one above.";
}

function listAgain() {
  clearTimeout(typing);
  pages = 1;
  listDocuments().catch((error) => { $("none").hidden = false; $("none").textContent = error.message; });
}

function documentRow(row) {
  const line = element("tr");
  const name = element("td");
  name.append(element("div", row.title && row.title !== row.path ? `${row.path}` : row.path));
  if (row.title) name.append(element("div", row.title, "reason"));
  const state = element("td");
  state.append(element("span", row.state, `state ${row.state}`));
  if (row.reason) state.append(element("div", row.reason, "reason"));
  if (row.state !== "ready" && row.next_step) state.append(element("div", row.next_step, "reason"));
  const action = element("td");
  if (row.state === "parked" || row.state === "failed") {
    const button = element("button", "Retry");
    button.dataset.name = row.id;
    button.setAttribute("aria-label", `Retry ${row.path}`);
    button.addEventListener("click", async () => {
      button.setAttribute("aria-disabled", "true");  // disabled, it would lose the focus
      $("upload-note").textContent = `${row.path} is tried again.`;
      await api(`/v1/documents/${row.id}/retry`, { method: "POST" }).catch((error) => { $("upload-note").textContent = error.message; });
      await listDocuments();
    });
    action.append(button);
  }
  line.append(name, state, element("td", row.chunks || "", "number"), element("td", size(row.bytes), "number"),
    element("td", row.indexed_at ? ago(row.indexed_at) : "", "time"), action);
  return line;
}

// ---------------------------------------------------------------- hits

function showHits(hits, note, asked) {
  // ``asked`` ({id, query, filters}) names the query that votes are about; without it there is nothing to vote on.
  $("hits-note").textContent = note;
  $("facets").replaceChildren();
  const best = [];
  $("hits").replaceChildren(...hits.map((hit) => {
    const item = element("li");
    const where = element("div", hit.metadata.path, "where");
    const more = [hit.metadata.heading, hit.metadata.page && `page ${hit.metadata.page}`].filter(Boolean).join(" · ");
    if (more) where.append(element("span", more, "faint"));
    const text = element("p", null, "text");
    const found = ((hit.joined || []).find((part) => part.offset === 0) || { span: [0] }).span[0];
    let position = 0;
    const until = (end) => {
      if (position <= found && found < end) {
        const mark = element("span");
        text.append(hit.content.slice(position, found), mark);
        position = found;
        best.push([text, mark]);
      }
      text.append(hit.content.slice(position, end));
      position = end;
    };
    for (const [start, end] of hit.highlights || []) {
      if (start < position || end > hit.content.length) continue;
      until(start);
      text.append(element("mark", hit.content.slice(start, end)));
      position = end;
    }
    until(hit.content.length);
    item.append(where, text, ...[sameAs(hit), why(hit), asked && voteOnHit(hit, asked)].filter(Boolean));
    return item;
  }));
  // The chunk that was found may stand below those before it.
  for (const [text, mark] of best) text.scrollTop = mark.offsetTop - text.offsetTop;
}

// ---------------------------------------------------------------- uploads

async function upload(files) {
  const faults = [];
  let done = 0;
  for (const file of files) {
    $("upload-note").textContent = `Uploading ${file.name} (${done + 1} of ${files.length}) …`;
    const body = new FormData();
    body.append("file", file, file.name);
    try {
      await api("/v1/documents", { method: "POST", body });
      done += 1;
    } catch (error) {
      faults.push(`${file.name}: ${error.message}`);
    }
  }
  $("upload-note").textContent = [`${done} of ${files.length} uploaded.`, ...faults].join(" ");
}

// ---------------------------------------------------------------- words

function size(bytes) {
  if (!bytes) return "";
  const units = ["B", "kB", "MB", "GB"];
  let step = 0;
  let value = bytes;
  while (value >= 1000 && step < units.length - 1) { value /= 1000; step += 1; }
  return `${step && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

function ago(iso) {
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  return seconds < 86400 ? `${duration(seconds)} ago` : new Date(iso).toLocaleDateString();
}

$("query-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = $("query").value.trim();
  if (!query) return;
  const action = event.submitter?.value === "ask" ? ask : runSearch;
  try {
    await action(query);
  } catch (error) {
    searchFailed(error);
  }
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value;
  sessionStorage.setItem("upwell-key", key);
  $("key-form").hidden = true;
  useShelf(null);  // until the api has let the new one in
});
$("piece").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(listAgain, PAUSE_MS);
});
$("more").addEventListener("click", () => { pages += 1; listDocuments(); });
$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => upload([...$("files").files]));
for (const name of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") upload([...event.dataTransfer.files]);
  });
}
setUpSearch();
setUpAnswers();
setUpPassages();
setUpHistory();
refresh();
