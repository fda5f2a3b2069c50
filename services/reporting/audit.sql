-- The recount: every figure from the definitions in docs/indicators.md, set by set, on entities read from the topics.
-- Shares nothing with the service but those definitions. Days are Viet Nam calendar days; instants microseconds since 1970.

-- Division rounds towards zero, days are counted downwards.
CREATE MACRO vn_day(us) AS DATE '1970-01-01'
    + CAST((us + 7 * 3600000000) // 86400000000 - CASE WHEN (us + 7 * 3600000000) % 86400000000 < 0 THEN 1 ELSE 0 END AS INTEGER);

CREATE TABLE enrollment_now AS
SELECT * FROM enrollment QUALIFY row_number() OVER (PARTITION BY enrollment_id ORDER BY version DESC) = 1;
CREATE TABLE completion_now AS
SELECT * FROM completion QUALIFY row_number() OVER (PARTITION BY enrollment_id ORDER BY version DESC) = 1;
CREATE TABLE person_now AS
SELECT * FROM person QUALIFY row_number() OVER (PARTITION BY person_ref ORDER BY version DESC) = 1;
CREATE TABLE territory_now AS
SELECT * FROM territory QUALIFY row_number() OVER (PARTITION BY code ORDER BY version DESC) = 1;
CREATE TABLE course_now AS
SELECT * FROM course QUALIFY row_number() OVER (PARTITION BY code ORDER BY version DESC) = 1;

-- Of the affiliations that have begun the last one counts, while it has not ended.
CREATE TABLE lived AS
SELECT person_ref, code, valid_from,
    least(coalesce(valid_to, DATE 'infinity'), coalesce(lead(valid_from) OVER (PARTITION BY person_ref ORDER BY valid_from), DATE 'infinity')) AS until_day
FROM residence SEMI JOIN person_now USING (person_ref, version);
CREATE TABLE belonged AS
SELECT person_ref, code, valid_from,
    least(coalesce(valid_to, DATE 'infinity'), coalesce(lead(valid_from) OVER (PARTITION BY person_ref, code ORDER BY valid_from), DATE 'infinity')) AS until_day
FROM membership SEMI JOIN person_now USING (person_ref, version);
DELETE FROM lived WHERE until_day <= valid_from;
DELETE FROM belonged WHERE until_day <= valid_from;

-- Stretches of days on which nothing changes about where a person is and to which groups they belong.
CREATE TABLE stretch AS
WITH everybody AS (SELECT DISTINCT person_ref FROM enrollment_now),
border AS (
    SELECT person_ref, DATE '-infinity' AS day FROM everybody
    UNION SELECT person_ref, valid_from FROM lived
    UNION SELECT person_ref, until_day FROM lived
    UNION SELECT person_ref, valid_from FROM belonged
    UNION SELECT person_ref, until_day FROM belonged
)
SELECT person_ref, day AS from_day, coalesce(lead(day) OVER (PARTITION BY person_ref ORDER BY day), DATE 'infinity') AS until_day
FROM border SEMI JOIN everybody USING (person_ref)
WHERE day < DATE 'infinity';

CREATE TABLE whereabouts AS
SELECT s.person_ref, s.from_day, s.until_day,
    CASE WHEN t.code IS NULL THEN 'VN/?' WHEN t.level = 'province' THEN 'VN/' || t.code || '/?' ELSE 'VN/' || t.province || '/' || t.code END AS leaf
FROM stretch s
LEFT JOIN lived l ON l.person_ref = s.person_ref AND l.valid_from <= s.from_day AND s.from_day < l.until_day
LEFT JOIN territory_now t ON t.code = l.code;

CREATE TABLE standing AS
SELECT w.*, 'all' AS grp FROM whereabouts w
UNION ALL
SELECT w.*, lower(b.code) FROM whereabouts w
JOIN belonged b ON b.person_ref = w.person_ref AND b.valid_from <= w.from_day AND w.from_day < b.until_day
UNION ALL
SELECT w.*, 'ungrouped' FROM whereabouts w
ANTI JOIN belonged b ON b.person_ref = w.person_ref AND b.valid_from <= w.from_day AND w.from_day < b.until_day;

-- Enrollments that count, once per course set.
CREATE TABLE counted AS
WITH sets AS (
    SELECT enrollment_id, 'ALL' AS course_set FROM enrollment_now
    UNION
    SELECT e.enrollment_id, unnest(c.course_sets) FROM enrollment_now e JOIN course_now c ON c.code = e.course
)
SELECT e.person_ref, e.enrollment_id, e.course, course_set, e.registered_at, e.started_at,
    CASE WHEN e.withdrawn_at IS NULL OR c.completed_at < e.withdrawn_at THEN c.completed_at END AS completed_at
FROM enrollment_now e JOIN sets USING (enrollment_id) LEFT JOIN completion_now c USING (enrollment_id)
WHERE e.registered_at IS NOT NULL AND e.status <> 'VOIDED';

CREATE TABLE begun AS
SELECT 'I-01' AS indicator, person_ref, course_set, vn_day(min(taken_part_at)) AS day FROM (
    SELECT person_ref, course_set, started_at AS taken_part_at FROM counted
    UNION ALL
    SELECT person_ref, course_set, completed_at FROM counted
) WHERE taken_part_at IS NOT NULL GROUP BY ALL
UNION ALL
SELECT 'I-04', person_ref, course_set, vn_day(min(completed_at)) FROM counted WHERE completed_at IS NOT NULL GROUP BY ALL;

CREATE TABLE happened AS
SELECT 'I-02' AS indicator, person_ref, course_set, vn_day(registered_at) AS day FROM counted
UNION ALL
SELECT 'I-05', person_ref, course_set, vn_day(min(completed_at)) FROM counted WHERE completed_at IS NOT NULL GROUP BY person_ref, course_set, course;

CREATE TABLE at_leaf AS
SELECT indicator, course_set, leaf, greatest(b.day, s.from_day) AS day, grp, 1 AS n
FROM begun b JOIN standing s ON s.person_ref = b.person_ref AND s.until_day > b.day
UNION ALL
SELECT indicator, course_set, leaf, s.until_day, grp, -1
FROM begun b JOIN standing s ON s.person_ref = b.person_ref AND s.until_day > b.day AND s.until_day < DATE 'infinity'
UNION ALL
SELECT indicator, course_set, leaf, h.day, grp, 1
FROM happened h JOIN standing s ON s.person_ref = h.person_ref AND s.from_day <= h.day AND h.day < s.until_day;

CREATE TABLE recount AS
WITH nodes AS (
    SELECT * FROM at_leaf
    UNION ALL
    SELECT indicator, course_set, 'VN/' || split_part(leaf, '/', 2), day, grp, n FROM at_leaf WHERE split_part(leaf, '/', 3) <> ''
    UNION ALL
    SELECT indicator, course_set, 'VN', day, grp, n FROM at_leaf
)
SELECT indicator, course_set, leaf AS node, day, grp, sum(n) AS n FROM nodes GROUP BY ALL HAVING sum(n) <> 0;

-- The service's driver writes the last and the first day a date can hold as infinity.
UPDATE figure SET day = DATE '9999-12-31' WHERE day = DATE 'infinity';
UPDATE figure SET day = DATE '0001-01-01' WHERE day = DATE '-infinity';

CREATE TABLE stood AS
SELECT indicator, course_set, node, day, grp, n FROM (
    UNPIVOT figure ON n_all, n_cit, n_stu, n_pub, n_ent, n_ungrouped INTO NAME column_name VALUE n
), (SELECT * FROM (VALUES ('n_all', 'all'), ('n_cit', 'cit'), ('n_stu', 'stu'), ('n_pub', 'pub'), ('n_ent', 'ent'), ('n_ungrouped', 'ungrouped')) AS names (column_name2, grp))
WHERE column_name = column_name2 AND n <> 0;

CREATE TABLE compared AS
SELECT indicator, course_set, node, day, grp, coalesce(s.n, 0) AS stood, coalesce(r.n, 0) AS recounted
FROM stood s FULL JOIN recount r USING (indicator, course_set, node, day, grp);
