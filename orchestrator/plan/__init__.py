"""The plan file: from bytes to a `RestorePlan`, and from there to mount requests.

    file:   bytes ── document ──▶ tree with positions ── variables ──▶ texts replaced
                  ── schema ──▶ typed sections ── resolving ──▶ RestorePlan (settings)
    choose: RestorePlan + inventory ── matching ──▶ machines ── sampling, selection ──▶ points
                                    ── expansion, guards ──▶ MountRequests with stable keys

Everything here is pure: no event loop, no network, no log. Loading reads files and nothing
else, and reports every problem of a plan in one pass.
"""
