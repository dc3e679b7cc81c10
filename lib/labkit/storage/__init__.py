"""Files on disk: atomic writes, locks, digests."""
