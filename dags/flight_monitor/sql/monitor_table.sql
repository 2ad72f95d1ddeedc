-- One row per month and version. Runs that start at the same time wait for each other.
SELECT pg_advisory_xact_lock(hashtext('flight_monitor'));

CREATE TABLE IF NOT EXISTS flight_monitor (
    month text NOT NULL,
    version text NOT NULL,
    outcomes integer NOT NULL,
    base_rate double precision NOT NULL,
    auc double precision,
    brier double precision NOT NULL,
    skill double precision,
    calibration jsonb NOT NULL,
    psi jsonb NOT NULL,
    ks jsonb NOT NULL,
    minimum_skill double precision NOT NULL,
    maximum_psi double precision NOT NULL,
    verdict text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (month, version)
)
