// Thumbs: what people think of a hit or an answer, kept with POST /v1/feedback.
// Loaded before console.js, whose helpers (api, element) it uses when it is called.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const THUMB = "M2 10h4v11H2zM8 20.5c.6.3 1.2.5 2 .5h7.4c1 0 1.8-.7 2-1.6l1.5-7c.3-1.3-.7-2.4-2-2.4H14l.9-4.6c.3-1.4-.5-2.4-1.6-2.4-.6 0-1 .3-1.3.8L8 10z";

function thumb(vote) {
  // Drawn, not an emoji: not every machine has a font for those.
  const icon = document.createElementNS(SVG, "svg");
  icon.setAttribute("viewBox", "0 0 24 24");
  icon.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", THUMB);
  if (vote === "down") path.setAttribute("transform", "matrix(1 0 0 -1 0 24)");
  icon.append(path);
  return icon;
}

function votes(label, judgement) {
  // Two toggles.  A second press takes the vote back; the other thumb replaces it.
  const box = element("div", null, "votes");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
  const note = element("span", null, "faint");
  note.setAttribute("role", "status");
  const buttons = [["up", "Helpful"], ["down", "Not helpful"]].map(([vote, name]) => {
    const button = element("button");
    button.append(thumb(vote));
    button.type = "button";
    button.title = name;
    button.setAttribute("aria-label", name);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => cast(vote));
    return [vote, button];
  });
  let given = null;  // {id, vote}: what the ledger has
  let busy = false;

  async function cast(vote) {
    if (busy) return;
    busy = true;
    const wanted = given?.vote === vote ? null : vote;
    try {
      if (given) await api(`/v1/feedback/${given.id}`, { method: "DELETE" });
      given = null;
      if (wanted) {
        const kept = await (await api("/v1/feedback", { method: "POST", json: { ...judgement, vote } })).json();
        given = { id: kept.id, vote };
      }
      note.textContent = given ? "Thank you." : "Taken back.";
    } catch (error) {
      note.textContent = `Not kept. ${error.message}`;
    }
    for (const [name, button] of buttons) button.setAttribute("aria-pressed", String(given?.vote === name));
    busy = false;
  }

  box.append(...buttons.map(([, button]) => button), note);
  return box;
}

function voteOnHit(hit, asked) {
  return votes(`Is this hit in ${hit.metadata.path} helpful?`,
    { kind: "hit", query_id: asked.id, query: asked.query, filters: asked.filters, doc_id: hit.doc_id, chunk_id: hit.id });
}

function voteOnAnswer(answer, asked) {
  return votes("Is this answer helpful?",
    { kind: "answer", query_id: answer.id, query: asked.query, filters: asked.filters, answer: answer.answer });
}
