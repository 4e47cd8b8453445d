// LangChain.js and Qdrant's own client for JavaScript read what Upwell wrote.
import assert from "node:assert/strict";
import test from "node:test";

import { QdrantVectorStore } from "@langchain/qdrant";
import { QdrantClient } from "@qdrant/js-client-rest";

const { INTEROP_API: api, INTEROP_COLLECTION: alias, INTEROP_MODEL: model } = process.env;
const { INTEROP_PHYSICAL: physical, INTEROP_QDRANT: url } = process.env;
const client = new QdrantClient({ url, checkCompatibility: false });

async function embedQuery(text) {
  const answer = await fetch(`${api}/v1/embeddings`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ input: [text], model }),
  });
  return (await answer.json()).data[0].embedding;
}

const embeddings = { embedQuery, embedDocuments: (texts) => Promise.all(texts.map(embedQuery)) };
const byPath = (path) => ({ must: [{ key: "metadata.path", match: { value: path } }] });

async function open() {
  return QdrantVectorStore.fromExistingCollection(embeddings, {
    url, collectionName: physical, contentPayloadKey: "content", metadataPayloadKey: "metadata",
  });
}

test("LangChain.js finds text and metadata", async () => {
  const [found] = await (await open()).similaritySearch("the code of the boiler", 1);
  assert.equal(found.pageContent, "The boiler code is 4711.");
  assert.equal(found.metadata.path, "house.md");
});

test("LangChain.js keeps a filter", async () => {
  const found = await (await open()).similaritySearch("What opens the cellar?", 5, byPath("garden.md"));
  assert.ok(found.length > 0);
  assert.deepEqual([...new Set(found.map((each) => each.metadata.path))], ["garden.md"]);
});

test("LangChain.js deletes a document by its id", async () => {
  const { points } = await client.scroll(alias, { filter: byPath("langchainjs.md"), limit: 10, with_payload: true });
  assert.ok(points.length > 0);
  const filter = { must: [{ key: "doc_id", match: { value: points[0].payload.doc_id } }] };
  await (await open()).delete({ filter });
  assert.equal((await client.count(alias, { filter, exact: true })).count, 0);
});

test("the REST client searches an alias, by vector and by words", async () => {
  const near = await client.query(alias, { query: await embedQuery("the code of the boiler"), limit: 1, with_payload: true });
  assert.equal(near.points[0].payload.content, "The boiler code is 4711.");
  const words = { text: "zyzzyva", model: "qdrant/bm25" };
  const found = await client.query(alias, { query: words, using: "bm25", limit: 1, with_payload: true });
  assert.equal(found.points[0].payload.metadata.path, "words.md");
});

test("the REST client fuses both lists", async () => {
  const found = await client.query(alias, {
    prefetch: [
      { query: await embedQuery("boiler code"), limit: 20 },
      { query: { text: "boiler code", model: "qdrant/bm25" }, using: "bm25", limit: 20 },
    ],
    query: { fusion: "rrf" }, limit: 1, with_payload: true,
  });
  assert.equal(found.points[0].payload.metadata.path, "house.md");
});
