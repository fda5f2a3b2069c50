"""Why enrollment sets records aside, besides the machinery's reasons."""

from shared.chassis.letters.reasons import Reason

REASONS = (
    Reason(
        "time_in_future",
        vi="Thời điểm xảy ra (occurred_at) nằm trong tương lai hơn 5 phút.",
        en="The moment it happened (occurred_at) lies more than 5 minutes in the future.",
        remedy_vi="Thường do đồng hồ hoặc múi giờ của nguồn. Hỏi giờ thật rồi sửa (edit --set occurred_at=…); nếu giờ đúng và nay đã qua: redrive.",
        remedy_en="Usually the source's clock or time zone. Ask for the true time and mend it (edit --set occurred_at=…); if it has come: redrive.",
    ),
    Reason(
        "time_before_movement",
        vi="Thời điểm xảy ra (occurred_at) trước ngày 26/3/2025 mà nguồn không được phép gửi dữ liệu lịch sử.",
        en="The moment it happened (occurred_at) lies before 26 March 2025, and the source is not named for history.",
        remedy_vi="Giờ sai: sửa (edit --set occurred_at=…). Là lịch sử thật: thêm nguồn vào ENROLLMENT_HISTORY_SOURCES rồi redrive. Dữ liệu thử: bỏ.",
        remedy_en="A wrong time: mend it. True history: add the source to ENROLLMENT_HISTORY_SOURCES, then redrive. A test: drop.",
    ),
    Reason(
        "id_reused",
        vi="Nguồn đã dùng mã sự kiện (ce_id) này cho một sự kiện khác; sự kiện đến trước được giữ.",
        en="The source used this event id (ce_id) for another fact before; what came first stays.",
        remedy_vi="Không sửa mã được. Bỏ bản ghi, báo nguồn sửa bộ xuất dữ liệu và gửi lại dưới mã mới.",
        remedy_en="The id cannot be edited. Drop it, tell the source to mend its exporter and to send again under a new id.",
    ),
)
"""The service's own codes."""
