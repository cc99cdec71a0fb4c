"""report.html: what remains of a run, for the engineer at night and the auditor later.

One file, no script, nothing from outside, and a content-security policy that says so. What
needs a person stands first. Every text is escaped and shown with its control characters
visible; nothing that came from a server is ever markup. `page` puts the parts together,
`sections` and `targets` make the tables, `timeline` and `concurrency` the pictures (with what
`drawing` knows of scale and axis), `style` the one style sheet.
"""

from orchestrator.report.as_html.page import render

__all__ = ["render"]
