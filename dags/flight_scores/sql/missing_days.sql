-- The requested days without features.
SELECT requested.day
FROM unnest(%(days)s::date[]) AS requested (day)
WHERE NOT EXISTS (SELECT FROM flight_features WHERE flight_features.day = requested.day)
ORDER BY requested.day
