"""Evidence: the records of a run beside its report, for verification later, by anybody.

    reports/RUN/journal.jsonl   the run's records, exactly as they were hashed and chained; of a
                                run over several machines all chains, each record naming its own
    reports/RUN/evidence.json   what belongs together: chain, hashes of the renderings, who, why
    reports/RUN/evidence.sig    Ed25519 over the bytes of evidence.json, with the user's own key

All of it comes from the journal alone: rebuilding gives the same bytes. The chain finds what
was changed by accident or by hand; against somebody who makes the whole directory anew only
the signature helps, or a copy of the chain's head in another place.
"""
