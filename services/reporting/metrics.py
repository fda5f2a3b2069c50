"""The closed list of this service's own metrics."""

from prometheus_client import Counter, Gauge

PERSONS = Counter("reporting_persons_recomputed_total", "Persons whose contributions were computed again.")
ROWS = Counter("reporting_figure_rows_total", "Rows of figures that were changed.")
PUBLISHED = Counter("reporting_figures_published_total", "Figures announced on the figures topic.")
NOT_INTACT = Counter(
    "reporting_reports_not_intact_total", "Readings of a frozen report whose figures no longer have its digest. Not 0: restore the database."
)
AUDIT_CELLS = Gauge("audit_cells_compared", "Cells compared by the last audit.")
AUDIT_DRIFT = Gauge(
    "audit_drift_cells", "Cells that differ from the recount of the last audit. Not 0: stop signing; see services/reporting/README.md."
)
AUDIT_AT = Gauge("audit_last_success_timestamp_seconds", "When the last audit without difference ended, seconds since 1970.")
REBUILD_DIFFERING = Gauge(
    "rebuild_differing_tables", "Tables that were not byte for byte what the last rebuild made. Not 0: see docs/runbook/rebuild.md."
)
REBUILD_SWITCH = Gauge("rebuild_switch_seconds", "How long folds waited while the last rebuild put its tables in place, seconds.")
REBUILD_AT = Gauge("rebuild_last_success_timestamp_seconds", "When the last rebuild without difference ended, seconds since 1970.")
