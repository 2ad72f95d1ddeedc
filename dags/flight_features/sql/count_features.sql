-- What is expected of the days, and the missing values of each feature: one row per requested day.
WITH kept AS (
    SELECT day, count(*) AS flights, count(*) / avg(count(*)) OVER recent AS share_of_recent_days
    FROM {{ staging }}.flights
    GROUP BY day
    WINDOW recent AS (
        ORDER BY day RANGE BETWEEN '{{ history_days }} days' PRECEDING AND '1 day' PRECEDING
    )
),
built AS (
    SELECT
        day,
        count(*) AS rows,
        count(*) FILTER (WHERE late) AS late,
        jsonb_build_object(
            {% for feature in features %}
            '{{ feature }}', count(*) FILTER (WHERE {{ feature }} IS NULL){{ "," if not loop.last }}
            {% endfor %}
        ) AS nulls
    FROM {{ staging }}.features
    GROUP BY day
)
SELECT
    day,
    kept.flights AS kept_flights,
    round(kept.share_of_recent_days, 3)::double precision AS share_of_recent_days,
    coalesce(built.rows, 0) AS rows,
    coalesce(built.late, 0) AS late,
    built.nulls
FROM kept
LEFT JOIN built USING (day)
WHERE day = ANY (%(days)s)
ORDER BY day
