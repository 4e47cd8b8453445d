"""The contract: everything that crosses from one process to another.

Messages on the broker, rows of the ledger, points in Qdrant, and the names they share.  Producers import this package
and nothing else from `workers`; it must stay light (no parser, no Qdrant client, no numpy).
"""
