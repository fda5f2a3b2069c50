-- The names of a frozen report's nodes as they were when it was frozen: the register goes on, what was signed does not.
CREATE TABLE report_place (
    report_id uuid NOT NULL REFERENCES report,
    node text COLLATE "C" NOT NULL,
    name text NOT NULL,
    CONSTRAINT report_place_pk PRIMARY KEY (report_id, node)
);

-- Of reports that were frozen before, today's register is the best that is known. An unplaced node has the name that it always had.
INSERT INTO report_place (report_id, node, name)
SELECT report_id, node, coalesce(CASE WHEN node = 'VN' THEN 'Việt Nam' WHEN node LIKE '%/?' THEN 'Chưa xác định địa bàn' ELSE type || ' ' || name END, node)
FROM (SELECT DISTINCT report_id, node FROM report_figure) AS named
LEFT JOIN territory_unit ON code = split_part(node, '/', CASE WHEN length(node) < 7 THEN 2 ELSE 3 END);
