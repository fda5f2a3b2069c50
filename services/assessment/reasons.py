"""Why assessment sets records aside, besides the machinery's reasons."""

from shared.chassis.letters.reasons import Reason

REASONS = (
    Reason(
        "id_reused",
        vi="Mã kết quả này đã đến trước với nội dung khác; điều đến trước được giữ.",
        en="Another outcome came under this id before; what came first stays.",
        remedy_vi="Dữ liệu này do dịch vụ enrollment gửi nên đây là lỗi của ta: báo đội kỹ thuật kèm mã bản ghi, chưa bỏ.",
        remedy_en="These facts come from enrollment, so the fault is ours: tell the engineers the letter's id, and do not drop it yet.",
    ),
)
"""The service's own codes."""
