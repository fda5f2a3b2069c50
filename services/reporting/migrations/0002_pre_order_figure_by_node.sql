-- One index instead of two: readers ask for the days of a node's cells, and a node's rows lie side by side.
-- Old code may run on: which index serves ON CONFLICT is found by its columns, not by their order.
ALTER TABLE figure DROP CONSTRAINT figure_pk, ADD CONSTRAINT figure_pk PRIMARY KEY (node, indicator, course_set, day);
DROP INDEX figure_node;
