// The passage behind a citation: its quotes marked where they stand in the document, and what stands around it.
// Loaded before console.js, whose helpers ($, api, element, ago) it uses when it is called.
"use strict";

let opened = 0;  // a passage that comes after another citation was opened is not shown

async function showPassage(cited) {
  opened += 1;
  const mine = opened;
  $("passage-where").textContent = cited.path;
  $("passage-version").textContent = [cited.title !== cited.path && cited.title,
    cited.version && `version ${cited.version.slice(0, 12)}`, cited.indexed_at && `indexed ${ago(cited.indexed_at)}`].filter(Boolean).join(" · ");
  tell("Looking …", cited);
  $("passage").showModal();  // which keeps the keyboard inside, closes at Escape and gives the focus back
  const show = await lookUp(cited).catch((error) => () => tell(`Only the quote can be shown. ${error.message}`, cited));
  if (mine === opened) show();
}

async function lookUp(cited) {
  const at = `/v1/documents/${cited.doc_id}`;
  const gone = () => tell("This document was deleted. What was cited of it:", cited);
  const found = await Promise.all([api(at), api(`${at}/chunks`)]).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  if (!found) return gone;
  const [row, { chunks }] = await Promise.all(found.map((answer) => answer.json()));
  if (row.state === "deleted") return gone;
  let place = chunks.findIndex((chunk) => chunk.id === cited.chunk_id);
  if (place < 0) place = chunks.findIndex((chunk) => cited.quotes.every((quote) => chunk.content.includes(quote)));
  if (place < 0) return () => tell("The document has changed, and this passage is not in it any more. What was cited:", cited);
  const note = row.version === cited.version ? "" : "The document has changed since; it still has this passage.";
  return () => showChunks(chunks, place, cited, note);
}

function tell(note, cited) {
  $("passage-note").textContent = note;
  $("passage-chunks").replaceChildren(...cited.quotes.map((quote) => passageOf({ content: quote }, [quote])));
  $("passage-before").hidden = true;
  $("passage-after").hidden = true;
}

function showChunks(chunks, place, cited, note) {
  const list = $("passage-chunks");
  let [first, last] = [place, place];
  const offer = (button, more) => {
    if (!more && document.activeElement === button) $("passage-close").focus();
    button.hidden = !more;
  };
  const offers = () => {
    offer($("passage-before"), first > 0);
    offer($("passage-after"), last < chunks.length - 1);
  };
  $("passage-note").textContent = note;
  list.replaceChildren(passageOf(chunks[place], cited.quotes));
  $("passage-before").onclick = () => { first -= 1; list.prepend(passageOf(chunks[first])); offers(); };
  $("passage-after").onclick = () => { last += 1; list.append(passageOf(chunks[last])); offers(); };
  offers();
  list.querySelector("mark")?.scrollIntoView({ block: "center" });
}

function passageOf(chunk, quotes = []) {
  const box = element("div", null, "passage");
  const text = element("p", null, "text");
  let position = 0;
  for (const [start, end] of placesOf(quotes, chunk.content)) {
    if (end <= position) continue;
    text.append(chunk.content.slice(position, Math.max(start, position)), element("mark", chunk.content.slice(Math.max(start, position), end)));
    position = end;
  }
  text.append(chunk.content.slice(position));
  box.append(element("div", [chunk.page && `page ${chunk.page}`, chunk.heading].filter(Boolean).join(" · "), "reason"), text);
  return box;
}

function placesOf(quotes, content) {
  // A quote is, letter for letter, part of what is cited; where it stands there twice, the first is as good.
  return quotes.map((quote) => [content.indexOf(quote), content.indexOf(quote) + quote.length])
    .filter(([start]) => start >= 0).sort(([one], [other]) => one - other);
}

function withLinks(text, citations) {
  // "[1]" of an answer opens what it cites; a document's own "[1]" comes as "(1)".
  return text.split(/(\[\d+\])/).map((part) => {
    const cited = citations.find((each) => part === `[${each.n}]`);
    return cited ? linkTo(cited, part, `${part} ${cited.path}`) : part;
  });
}

function linkTo(cited, text, name) {
  const link = element("button", text, "cite");
  link.type = "button";
  if (name) link.setAttribute("aria-label", name);
  link.setAttribute("aria-haspopup", "dialog");
  link.addEventListener("click", () => showPassage(cited));
  return link;
}

function setUpPassages() {
  $("passage-close").addEventListener("click", () => $("passage").close());
  $("passage").addEventListener("click", (event) => { if (event.target === $("passage")) $("passage").close(); });  // beside it
}
