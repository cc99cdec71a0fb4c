"""What earlier runs found out, folded from their records: proofs, durations, measurements.

Whoever keeps the records gives rows; what they mean is decided here, once for every store.
"""
