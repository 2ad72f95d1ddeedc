-- What the checks of the raw data compare: one row per requested day.
WITH requested AS (
    SELECT unnest(%(days)s::date[]) AS day
),
refused AS (
    SELECT
        day,
        sum(rows) AS rows,
        coalesce(sum(rows) FILTER (WHERE reason LIKE 'unknown origin%%'), 0) AS unknown_origins,
        string_agg(reason, ', ' ORDER BY reason) AS reasons
    FROM {{ staging }}.rejected
    WHERE source = 'flights'
    GROUP BY day
),
departures AS (
    SELECT
        day,
        count(*) AS rows,
        count(*) FILTER (WHERE cancelled) AS cancelled,
        count(*) FILTER (WHERE planes.tail_number IS NULL) AS unknown_planes
    FROM {{ staging }}.flights
    LEFT JOIN {{ staging }}.planes USING (tail_number)
    GROUP BY day
),
observations AS (
    SELECT day, count(*) AS hours, count(*) FILTER (WHERE wind_gust IS NULL) AS missing_gusts
    FROM {{ staging }}.weather
    GROUP BY day
)
SELECT
    day,
    coalesce(departures.rows, 0) + coalesce(refused.rows, 0) AS flights,
    (departures.rows IS NULL AND refused.rows IS NULL)::integer AS empty,
    coalesce(refused.rows, 0) AS rejected_flights,
    coalesce(refused.unknown_origins, 0) AS unknown_origins,
    coalesce(refused.reasons, '') AS reasons,
    coalesce(departures.cancelled, 0) AS cancelled,
    coalesce(departures.unknown_planes, 0) AS unknown_planes,
    24 * cardinality(%(origins)s::text[]) AS expected_hours,
    24 * cardinality(%(origins)s::text[]) - coalesce(observations.hours, 0) AS missing_hours,
    coalesce(observations.hours, 0) AS weather_hours,
    coalesce(observations.missing_gusts, 0) AS missing_gusts
FROM requested
LEFT JOIN refused USING (day)
LEFT JOIN departures USING (day)
LEFT JOIN observations USING (day)
ORDER BY day
