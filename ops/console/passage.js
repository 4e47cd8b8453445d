// The passage behind a citation: its quotes marked where they stand in the document, and what stands around it.
// Loaded before console.js, whose helpers ($, api, element, ago) it uses when it is called.
"use strict";

const WINDOW = 20;  // chunks that are fetched at a time
const MANY = 200;  // where a passage is looked for
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
  const read = async (words) => (await api(`${at}/chunks?${new URLSearchParams({ limit: WINDOW, ...words })}`)).json();
  const gone = () => tell("This document was deleted. What was cited of it:", cited);
  const found = await Promise.all([api(at), read({ around: cited.chunk_id })]).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  if (!found) return gone;
  const [row, around] = [await found[0].json(), found[1]];
  if (row.state === "deleted") return gone;
  const part = around.chunks.some((chunk) => cites(cited, chunk)) ? around : await lookThrough(cited, read);
  if (!part) return () => tell("The document has changed, and this passage is not in it any more. What was cited:", cited);
  const note = row.version === cited.version ? "" : "The document has changed since; it still has this passage.";
  return () => showChunks(part, cited, note, read);
}

async function lookThrough(cited, read) {
  // The chunk is not there any more; another may have its words.  A long document comes in parts.
  for (let first = 0; first !== null;) {
    const part = await read({ first, limit: MANY });
    if (part.chunks.some((chunk) => cites(cited, chunk))) return part;
    first = part.next;
  }
  return null;
}

function cites(cited, chunk) {
  return chunk.id === cited.chunk_id || cited.quotes.every((quote) => chunk.content.includes(quote));
}

function tell(note, cited) {
  $("passage-note").textContent = note;
  $("passage-chunks").replaceChildren(...cited.quotes.map((quote) => passageOf({ content: quote }, [quote])));
  $("passage-before").hidden = true;
  $("passage-after").hidden = true;
}

class Stretch {
  // What is shown of a document, from ``first`` to ``last`` of the chunks that were fetched; either end can be moved on.
  constructor({ chunks, next }, place, read) {
    Object.assign(this, { chunks, next, read, first: place, last: place });
  }

  get hasBefore() { return this.first > 0 || this.chunks[0].index > 0; }

  get hasAfter() { return this.last < this.chunks.length - 1 || this.next !== null; }

  async before() {
    if (!this.first) {
      const from = Math.max(0, this.chunks[0].index - WINDOW);
      const { chunks } = await this.read({ first: from, limit: this.chunks[0].index - from });
      this.chunks = [...chunks, ...this.chunks];
      this.first += chunks.length;
      this.last += chunks.length;
    }
    return this.first ? this.chunks[this.first -= 1] : null;
  }

  async after() {
    if (this.last === this.chunks.length - 1) {
      const { chunks, next } = await this.read({ first: this.next });
      this.chunks = [...this.chunks, ...chunks];
      this.next = next;
    }
    return this.last < this.chunks.length - 1 ? this.chunks[this.last += 1] : null;
  }
}

function showChunks(part, cited, note, read) {
  const list = $("passage-chunks");
  const mine = opened;
  const exactly = part.chunks.findIndex((chunk) => chunk.id === cited.chunk_id);
  const stretch = new Stretch(part, exactly >= 0 ? exactly : part.chunks.findIndex((chunk) => cites(cited, chunk)), read);
  const offer = (button, more) => {
    if (!more && document.activeElement === button) $("passage-close").focus();
    button.hidden = !more;
  };
  const offers = () => {
    offer($("passage-before"), stretch.hasBefore);
    offer($("passage-after"), stretch.hasAfter);
  };
  let moving = false;  // a second press while the first is still fetching does nothing
  const move = async (further, place) => {
    if (moving) return;
    moving = true;
    const chunk = await further().catch((error) => { if (mine === opened) $("passage-note").textContent = error.message; });
    moving = false;
    if (mine !== opened) return;  // another passage is open
    if (chunk) place(passageOf(chunk));
    offers();
  };
  $("passage-note").textContent = note;
  list.replaceChildren(passageOf(stretch.chunks[stretch.first], cited.quotes));
  $("passage-before").onclick = () => move(() => stretch.before(), (box) => list.prepend(box));
  $("passage-after").onclick = () => move(() => stretch.after(), (box) => list.append(box));
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
