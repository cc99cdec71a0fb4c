"""Whether a login may serve a site. The function `may_serve` of the schema decides that at each
taking, and then a worker of another site's login is given nothing, without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from orchestrator.core.errors import SiteDenied
from orchestrator.database.address import Address
from orchestrator.database.link import Link

DENIED: LiteralString = """
SELECT site, quote_ident(rolname), quote_ident(session_user)
FROM unnest(%s::text[]) AS site
JOIN pg_roles ON rolname = ('bulk_restore_site_' || site)::name
WHERE NOT pg_has_role(session_user, pg_roles.oid, 'MEMBER')
ORDER BY site
"""


async def require_sites(address: Address, sites: Sequence[str]) -> None:
    """Check that this login may serve sites.

    Raises:
        SiteDenied: not all of them; with what to grant.
        DatabaseAway: it cannot be reached.
    """
    link = Link(address)
    try:
        denied = await link.rows(DENIED, [list(sites)])
    finally:
        await link.aclose()
    if denied:
        login = denied[0][2]
        names = ", ".join(site for site, _, _ in denied)
        roles = ", ".join(role for _, role, _ in denied)
        raise SiteDenied(
            f"the login {login} may not serve {names} in {address}: it is no member of {roles}; "
            f"an administrator of the database grants it: GRANT {roles} TO {login}"
        )
