"""Notices what was forgotten: documents whose hint was lost, retries that are due, leases that ran out."""
