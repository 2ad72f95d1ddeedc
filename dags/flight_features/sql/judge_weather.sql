-- As in judge_flights.sql. The clock shows an hour twice when daylight saving time ends: the later observation is kept.
{% set measures = ("temp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib") %}
WITH judged AS (
    SELECT
        *,
        CASE
            WHEN (year, month, day) IS DISTINCT FROM (
                extract(year FROM file_day)::text, extract(month FROM file_day)::text, extract(day FROM file_day)::text
            ) THEN 'of another day'
            WHEN (
                {% for measure in measures %}
                ({{ measure }} IS NULL OR {{ measure }} ~ '{{ number }}') AND
                {% endfor %}
                hour ~ '{{ integer }}'
            ) IS NOT TRUE THEN 'not a number'
            WHEN origin IS NULL OR origin <> ALL (%(origins)s) THEN format('unknown origin %%s', left(origin, 10))
            WHEN row_number() OVER (
                PARTITION BY file_day, origin, hour ORDER BY time_hour DESC, {{ measures | join(", ") }}
            ) > 1 THEN 'duplicate hour'
        END AS reason
    FROM {{ staging }}.raw_weather
),
kept AS (
    INSERT INTO {{ staging }}.weather
    SELECT
        file_day,
        origin,
        hour::integer,
        {% for measure in measures %}
        {{ measure }}::double precision{{ "," if not loop.last }}
        {% endfor %}
    FROM judged
    WHERE reason IS NULL
)
INSERT INTO {{ staging }}.rejected
SELECT 'weather', file_day, reason, count(*)
FROM judged
WHERE reason IS NOT NULL
GROUP BY file_day, reason
