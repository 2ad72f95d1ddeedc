-- The flights of a month that were scored, with their outcomes. If several versions scored a flight, the latest counts.
SELECT DISTINCT ON ({{ key | join(", ") }})
    {{ columns | join(", ") }}, version, probability
FROM flight_scores
JOIN flight_features USING ({{ key | join(", ") }})
WHERE day >= %(first)s AND day < %(end)s
ORDER BY {{ key | join(", ") }}, version::integer DESC
