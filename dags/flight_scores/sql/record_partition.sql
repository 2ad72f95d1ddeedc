INSERT INTO flight_scores_partitions (day, version, scored_at, features_checksum)
VALUES (%(day)s, %(version)s, now(), %(checksum)s)
ON CONFLICT (day, version) DO UPDATE SET
    scored_at = excluded.scored_at,
    features_checksum = excluded.features_checksum
