{% import "rejections.sql" as rejections %}
-- As in judge_flights.sql. The rejected planes have no day.
WITH judged AS (
    SELECT
        *,
        CASE
            WHEN tailnum IS NULL THEN 'no tail number'
            WHEN NOT (
                (year IS NULL OR year ~ '{{ integer }}')
                AND (seats IS NULL OR seats ~ '{{ integer }}')
            ) THEN 'not a number'
            WHEN row_number() OVER (PARTITION BY tailnum ORDER BY year, seats) > 1 THEN 'duplicate tail number'
        END AS reason
    FROM {{ staging }}.raw_planes
),
kept AS (
    INSERT INTO {{ staging }}.planes
    SELECT tailnum, year::integer, seats::integer
    FROM judged
    WHERE reason IS NULL
)
{{ rejections.count(staging, 'planes') }}
