"""Evidence: what a report is made from, kept beside it so that anybody can check it later.

    reports/RUN/journal.jsonl   the run's records, exactly as they were hashed and chained
    reports/RUN/evidence.json   what belongs together: chain, hashes of the renderings, who, why
    reports/RUN/evidence.sig    Ed25519 over the bytes of evidence.json, with the user's own key

All of it comes from the journal alone: rebuilding gives the same bytes. The chain finds what
was changed by accident or by hand; against somebody who makes the whole directory anew only
the signature helps, or a copy of the chain's head in another place.
"""

from orchestrator.evidence.signing import PublicKey, Signer, load_public_key, load_signer
from orchestrator.evidence.verifying import Verdict, verify
from orchestrator.evidence.writing import (
    is_signed,
    require_no_more,
    withdraw_evidence,
    write_evidence,
)

__all__ = [
    "PublicKey",
    "Signer",
    "Verdict",
    "is_signed",
    "load_public_key",
    "load_signer",
    "require_no_more",
    "verify",
    "withdraw_evidence",
    "write_evidence",
]
