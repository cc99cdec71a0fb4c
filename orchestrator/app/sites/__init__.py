"""One run over several machines: workers serve its shards, one of them conducts it."""
