"""Why a record is set aside: one closed list of codes, explained to people. A service adds its own to the machinery's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Language = Literal["vi", "en"]
"""Languages of everything a clerk reads."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason code.

    Attributes:
        code: as it stands in tables, headers and metrics.
        vi: what is wrong, in Vietnamese.
        en: the same in English.
        remedy_vi: what to do, in Vietnamese.
        remedy_en: the same in English.
    """

    code: str
    vi: str
    en: str
    remedy_vi: str
    remedy_en: str

    def explanation(self, language: Language) -> str:
        """What is wrong."""
        return self.vi if language == "vi" else self.en

    def remedy(self, language: Language) -> str:
        """What to do."""
        return self.remedy_vi if language == "vi" else self.remedy_en


MACHINERY = (
    Reason(
        "too_large",
        vi="Nội dung lớn hơn 1 MiB.",
        en="The data is larger than 1 MiB.",
        remedy_vi="Đề nghị nguồn chia nhỏ rồi gửi lại, sau đó bỏ bản ghi này (drop); nếu phần thừa là rõ ràng thì thay nội dung (edit --data).",
        remedy_en="Ask the source to send it in parts, then drop this letter; where the surplus is plain, replace the data (edit --data).",
    ),
    Reason(
        "header_not_utf8",
        vi="Một tiêu đề (header) không phải là chữ UTF-8.",
        en="A header is not UTF-8 text.",
        remedy_vi="Xem tiêu đề nào sai (show) rồi sửa (edit --header). Nếu sai ở ce_id hoặc ce_source thì bỏ bản ghi và đề nghị nguồn gửi lại.",
        remedy_en="See which header is wrong (show) and mend it (edit --header). If ce_id or ce_source: drop; the source must send again.",
    ),
    Reason(
        "missing_attribute",
        vi="Thiếu một thuộc tính bắt buộc (ce_id, ce_source, ce_type, ce_specversion), hoặc thuộc tính đó không đọc được.",
        en="A required attribute (ce_id, ce_source, ce_type, ce_specversion) is missing or cannot be read.",
        remedy_vi="Bổ sung bằng edit --header. Nếu thiếu ce_id hoặc ce_source thì không ai được đặt thay: bỏ bản ghi và đề nghị nguồn gửi lại.",
        remedy_en="Add it with edit --header. If it is ce_id or ce_source nobody may invent it: drop the letter; the source must send again.",
    ),
    Reason(
        "unknown_specversion",
        vi="Phiên bản CloudEvents không phải là 1.0.",
        en="The CloudEvents version is not 1.0.",
        remedy_vi="Nếu phần còn lại đúng thì sửa: edit --header ce_specversion=1.0. Báo nguồn sửa bộ xuất dữ liệu.",
        remedy_en="If all else is right: edit --header ce_specversion=1.0. Tell the source to mend its exporter.",
    ),
    Reason(
        "unknown_type",
        vi="Loại sự kiện (ce_type) không có trong danh mục của chủ đề này.",
        en="The event type (ce_type) is not in the catalogue of this topic.",
        remedy_vi="So với docs/events.md. Gõ sai: edit --header ce_type=… rồi redrive. Loại mới: nâng cấp dịch vụ rồi redrive, không cần sửa.",
        remedy_en="Compare with docs/events.md. Mistyped: edit --header ce_type=…, then redrive. A new type: upgrade the service, then redrive.",
    ),
    Reason(
        "unknown_content_type",
        vi="Kiểu nội dung (content-type) không phải là application/json.",
        en="The content-type is not application/json.",
        remedy_vi="Nếu nội dung đúng là JSON thì sửa: edit --header content-type=application/json. Báo nguồn.",
        remedy_en="If the data is JSON after all: edit --header content-type=application/json. Tell the source.",
    ),
    Reason(
        "bad_time",
        vi="Thời điểm ce_time không đúng dạng ISO 8601.",
        en="ce_time is not an ISO 8601 timestamp.",
        remedy_vi="Sửa bằng edit --header ce_time=2026-06-20T08:00:00+07:00 (theo thời điểm thật).",
        remedy_en="Mend it with edit --header ce_time=2026-06-20T08:00:00+07:00 (the true moment).",
    ),
    Reason(
        "not_utf8",
        vi="Nội dung không phải là chữ UTF-8.",
        en="The data is not UTF-8 text.",
        remedy_vi="Nguồn dùng bảng mã khác. Chuyển sang UTF-8 rồi thay nội dung (edit --data), hoặc bỏ bản ghi và đề nghị nguồn gửi lại.",
        remedy_en="The source uses another encoding. Convert and replace the data (edit --data), or drop the letter and have the source send again.",
    ),
    Reason(
        "not_json",
        vi="Nội dung không phải là JSON, hoặc lồng nhau quá sâu.",
        en="The data is not JSON, or is nested too deeply.",
        remedy_vi="Xem nội dung (show --with-data), thay bằng JSON đúng (edit --data), hoặc bỏ bản ghi và đề nghị nguồn gửi lại.",
        remedy_en="Look at the data (show --with-data) and replace it (edit --data), or drop the letter and have the source send again.",
    ),
    Reason(
        "schema_violation",
        vi="Nội dung không đúng hợp đồng dữ liệu; phần chi tiết nêu tên từng trường.",
        en="The data breaks its contract; the detail names each field.",
        remedy_vi="Sửa các trường được nêu tên (edit --set trường=giá_trị) theo xác nhận của nguồn, rồi redrive.",
        remedy_en="Mend the fields it names (edit --set field=value) as the source confirms, then redrive.",
    ),
    Reason(
        "unreadable",
        vi="Chương trình của ta không đọc được bản ghi này vì một lý do chưa lường trước.",
        en="Our own program cannot read this record, for a reason nobody foresaw.",
        remedy_vi="Đừng sửa nội dung: báo đội kỹ thuật kèm mã bản ghi. Khi dịch vụ đã được sửa và nâng cấp thì redrive.",
        remedy_en="Do not edit: tell the engineers the letter's id. Redrive once the service has been mended and upgraded.",
    ),
    Reason(
        "handler_failed",
        vi="Chương trình của ta gặp lỗi với riêng bản ghi này.",
        en="Our own program fails on this record.",
        remedy_vi="Đừng sửa nội dung: báo đội kỹ thuật kèm mã bản ghi. Khi dịch vụ đã được sửa và nâng cấp thì redrive.",
        remedy_en="Do not edit: tell the engineers the letter's id. Redrive once the service has been mended and upgraded.",
    ),
    Reason(
        "topic_not_read",
        vi="Dịch vụ này không còn đọc chủ đề của bản ghi này.",
        en="This service no longer reads the letter's topic.",
        remedy_vi="Không áp dụng được nữa: bỏ bản ghi kèm lý do, hoặc hỏi đội kỹ thuật.",
        remedy_en="It cannot be applied any more: drop it with your reason, or ask the engineers.",
    ),
)
"""Codes of the machinery; every service has them."""


class ReasonBook:
    """The reasons that one service may give."""

    def __init__(self, own: Sequence[Reason] = ()) -> None:
        """Put a service's own reasons beside the machinery's.

        Raises:
            ValueError: a code stands twice.
        """
        self._by_code: dict[str, Reason] = {}
        for reason in (*MACHINERY, *own):
            if reason.code in self._by_code:
                raise ValueError(f"the reason {reason.code} stands twice")
            self._by_code[reason.code] = reason

    @property
    def all(self) -> Mapping[str, Reason]:
        """Every reason by its code."""
        return self._by_code

    def of(self, code: str) -> Reason:
        """The reason with this code; also for one that an older or newer program wrote and this one does not know."""
        return self._by_code.get(code) or Reason(
            code,
            vi="Mã này không có trong danh mục của phiên bản đang chạy.",
            en="The running version does not list this code.",
            remedy_vi="Hỏi đội kỹ thuật.",
            remedy_en="Ask the engineers.",
        )
