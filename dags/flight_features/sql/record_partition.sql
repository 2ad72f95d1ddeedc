INSERT INTO flight_features_partitions (day, published_at, checksum, counts, rejected, warnings)
VALUES (%(day)s, now(), %(checksum)s, %(counts)s, %(rejected)s, %(warnings)s)
ON CONFLICT (day) DO UPDATE SET
    published_at = excluded.published_at,
    checksum = excluded.checksum,
    counts = excluded.counts,
    rejected = excluded.rejected,
    warnings = excluded.warnings,
    halted = NULL
