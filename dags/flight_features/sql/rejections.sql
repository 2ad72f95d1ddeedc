{# What the judgements of raw rows have in common. #}
{% macro of_another_day() %}
WHEN (year, month, day) IS DISTINCT FROM (
                extract(year FROM file_day)::text, extract(month FROM file_day)::text, extract(day FROM file_day)::text
            ) THEN 'of another day'
{%- endmacro %}
{% macro unknown_origin() %}
WHEN origin IS NULL OR origin <> ALL (%(origins)s) THEN format('unknown origin %%s', left(origin, 10))
{%- endmacro %}
{% macro count(staging, source) %}
INSERT INTO {{ staging }}.rejected
SELECT '{{ source }}', file_day, reason, count(*)
FROM judged
WHERE reason IS NOT NULL
GROUP BY file_day, reason
{%- endmacro %}
