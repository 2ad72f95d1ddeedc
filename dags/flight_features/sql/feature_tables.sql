-- The published tables. Runs that start at the same time wait for each other.
SELECT pg_advisory_xact_lock(hashtext('flight_features'));

CREATE TABLE IF NOT EXISTS flight_features (
    day date NOT NULL,
    carrier text NOT NULL,
    flight integer NOT NULL,
    scheduled_departure timestamp NOT NULL,
    origin text NOT NULL,
    destination text NOT NULL,
    tail_number text,
    {% for feature in features %}
    {{ feature }} double precision,
    {% endfor %}
    late boolean NOT NULL,
    PRIMARY KEY ({{ key | join(", ") }})
);

-- One row per partition: what was published and, if the last run of the day halted, why.
CREATE TABLE IF NOT EXISTS flight_features_partitions (
    day date PRIMARY KEY,
    published_at timestamptz,
    checksum text,
    counts jsonb,
    rejected jsonb,
    warnings jsonb,
    halted text
);
