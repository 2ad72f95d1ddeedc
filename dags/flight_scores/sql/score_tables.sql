-- Runs that start at the same time wait for each other.
SELECT pg_advisory_xact_lock(hashtext('flight_scores'));

CREATE TABLE IF NOT EXISTS flight_scores (
    day date NOT NULL,
    carrier text NOT NULL,
    flight integer NOT NULL,
    scheduled_departure timestamp NOT NULL,
    version text NOT NULL,
    probability double precision NOT NULL,
    PRIMARY KEY ({{ key | join(", ") }}, version)
);

-- One row per day and version: the features that were scored, and when.
CREATE TABLE IF NOT EXISTS flight_scores_partitions (
    day date NOT NULL,
    version text NOT NULL,
    scored_at timestamptz NOT NULL,
    features_checksum text NOT NULL,
    PRIMARY KEY (day, version)
);
