"""Reports: report.md, report.html with its item explorer, provenance.html, the aggregate, and the last lines in the terminal.

Reads documents and tables that earlier steps wrote and computes no inference of its own. Everything here but provenance.html is a
function of those files alone: no clock, host, absolute path or run_id, so that the same answers give the same bytes.
"""
