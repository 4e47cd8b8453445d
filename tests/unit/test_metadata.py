"""The user's own metadata: where it comes from, what wins, which types it keeps, and that describing embeds nothing."""

from __future__ import annotations

import json
import os

import pytest

from producers.ignore import IgnoreRules, plain
from producers.scan import Scanned, look, walk
from tests.support.workbench import Workbench
from workers.contract.sidecar import described_name, sidecar_name
from workers.contract.states import State
from workers.indexing.chunk import ChunkOptions
from workers.indexing.metadata import NO_RULES, FolderRules, describe, own_fields
from workers.indexing.parse.markdown import read_markdown
from workers.indexing.recipe import recipe_fingerprint
from workers.indexing.values import DocumentMetadata

LAW = b"# Law on water\n\nArticle 1. Water is for all.\n"


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path)
    yield bench
    bench.engine.dispose()


def described(facts=None, sidecar=None, extra=None, rules=NO_RULES, path="laws/a.md"):
    beside = None if sidecar is None else json.dumps(sidecar).encode()
    return describe(
        facts or DocumentMetadata(), source="docs", path=path, sidecar=beside, extra=extra or {}, rules=rules
    )


def test_types_are_kept_and_what_cannot_be_filtered_by_is_left_out():
    raw = {
        "jurisdiction": "AD",
        "pages": 12,
        "fee": 2.5,
        "in force": True,
        "tags": ["water", "energy", {"no": 1}],
        "court": {"name": "high", "deep": {"deeper": {"too deep": 1}}},
        "heard": "2015-03-01 10:00:00",
        "date": "2015-03-01",
        "case.no": "7",
        "path": "/etc/passwd",
        "none": None,
        "nan": float("nan"),
        "a[0]": 1,
        "": 1,
    }

    assert own_fields(raw) == {
        "jurisdiction": "AD",
        "pages": 12,
        "fee": 2.5,
        "in force": True,
        "tags": ["water", "energy"],
        "court": {"name": "high"},
        "heard": "2015-03-01T10:00:00Z",
        "date": "2015-03-01",
        "case_no": "7",
    }


def test_front_matter_in_yaml_and_toml_says_the_same():
    yaml = b"---\ntitle: Water\ndate: 2015-03-01\ntags: [a, b]\npages: 3\n---\n" + LAW
    toml = b'+++\ntitle = "Water"\ndate = 2015-03-01\ntags = ["a", "b"]\npages = 3\n+++\n' + LAW

    for data in (yaml, toml):
        parsed = read_markdown(data, "")
        assert (parsed.metadata.title, parsed.metadata.created) == ("Water", "2015-03-01")
        assert parsed.metadata.extra == {"date": "2015-03-01", "tags": ["a", "b"], "pages": 3}
        assert parsed.elements[0].text == "Law on water"


def test_the_later_word_wins_rule_document_sidecar_upload():
    rules = FolderRules({"laws/**": {"type": "rule", "a": 1, "b": 1, "c": 1, "title": "Rule"}})
    facts = DocumentMetadata(title="Document", extra={"b": 2, "c": 2})

    found = described(facts, {"c": 3, "author": "Sidecar"}, {"d": 4, "language": "ca"}, rules).metadata

    assert {name: found[name] for name in "abcd"} == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert (found["title"], found["author"], found["language"], found["type"]) == ("Document", "Sidecar", "ca", "rule")


def test_a_rule_is_for_its_folder_and_its_source():
    rules = FolderRules({"laws/": {"type": "law"}, "other:**": {"type": "other"}, "*.txt": {"plain": True}})

    assert rules.fields("docs", "laws/a/b.md") == {"type": "law"}
    assert rules.fields("other", "laws/a.txt") == {"type": "other", "plain": True}
    assert rules.fields("docs", "lawsuits.md") == {}


def test_changed_rules_describe_every_document_again():
    options = ChunkOptions()

    assert recipe_fingerprint(options) == recipe_fingerprint(options, {})
    assert recipe_fingerprint(options) != recipe_fingerprint(options, {"**": {"a": 1}})


@pytest.mark.parametrize("broken", [b"", b"[1]", b"{", b'"text"', b"[" * 50_000])
def test_a_broken_sidecar_is_not_used_and_its_document_says_so(broken):
    found = describe(DocumentMetadata(), source="docs", path="a", sidecar=broken, extra={}, rules=NO_RULES)

    assert "sidecar" in (found.fault or "")


def test_a_sidecar_that_comes_changes_and_goes_describes_its_document_and_embeds_nothing(bench):
    key = bench.write("a.txt", "one\n\ntwo")
    bench.run(key)
    bench.embedder.texts.clear()
    sidecar = bench.root / "a.txt.meta.json"
    seen = []

    for text in ('{"type": "law"}', '{"type": "decree"}', None):
        sidecar.write_text(text) if text is not None else sidecar.unlink()
        bench.see("a.txt")
        bench.run(key)
        seen.append({point["metadata"].get("type") for point in bench.index.points.values()})
        assert bench.row(key).state == State.READY

    assert seen == [{"law"}, {"decree"}, {None}]
    assert bench.embedder.texts == []


def test_a_sidecar_that_is_no_json_leaves_its_document_indexed_with_a_reason(bench):
    (bench.root / "a.txt.meta.json").write_text("{not json")
    key = bench.write("a.txt", "one")
    bench.run(key)

    assert bench.row(key).state == State.READY
    assert all(".meta.json" in point["metadata"]["sidecar_error"] for point in bench.index.points.values())


def test_a_sidecar_is_no_document_and_moves_what_is_remembered_of_its_document(tmp_path):
    (tmp_path / "a.md").write_bytes(LAW)
    rules = IgnoreRules(tmp_path)
    before = look(tmp_path, b"a.md", rules)
    (tmp_path / "a.md.meta.json").write_text("{}")
    os.utime(tmp_path / "a.md.meta.json", ns=(1, 1))  # older than its document
    after = look(tmp_path, b"a.md", rules)
    walked = [found for found in walk(tmp_path, b"", rules, Scanned()) if found is not None]

    assert before is not None
    assert after is not None
    assert before.mtime_ns != after.mtime_ns
    assert [(found.path, found.mtime_ns) for found in walked] == [("a.md", after.mtime_ns)]
    assert rules.explain("a.md.meta.json").by_default
    assert not plain("a.md.meta.json")


@pytest.mark.parametrize(
    ("name", "base"), [(b"a.md.meta.json", b"a.md"), (b"d/.meta.json", None), (b"a.json", None), (b".meta.json", None)]
)
def test_a_sidecars_name_leads_to_its_document(name, base):
    assert described_name(name) == base
    assert base is None or sidecar_name(base) == name
