"""Run Upwell and watch it: command line, HTTP api, console page, embedded stack, metrics."""
